"""Whose uptime a slot's time is: of two copies of one slot, one counts at any moment, however long both ran.

Before a copy took over (`Lease.uptime_from`) it counts nothing, afterwards no more than the time since: also a warm standby. The one it replaced counts until then
(`Lease.uptime_until`): of a total read later, the time since is taken off. Together a slot never has more uptime than time passed.
Other meters count work (bytes, instructions), and each copy is paid for what it did.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from nodes.agent.protocol import Meter
from nodes.services.plausibility import Counted

_MS = timedelta(milliseconds=1)


def due(lease: Counted, meter: Meter, total: int, *, at: datetime, now: datetime) -> int:
    """Return how much of a total read at `at` counts, in the meter's base unit.

    Args:
        at: by the device's clock. now: by the portal's.
    """
    if meter is not Meter.UPTIME:
        return total
    if lease.replaces is not None and lease.uptime_from is None:
        return 0
    if lease.uptime_from is not None:
        total = min(total, max(0, (min(at, now) - lease.uptime_from) // _MS))
    if lease.uptime_until is not None:
        total -= max(0, (at - lease.uptime_until) // _MS)
    return max(0, total)
