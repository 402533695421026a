"""What a device can possibly have used since a lease began. A claim above is capped, noted, and paid only up to here.

The bounds use the portal's clock and the lease as it was opened, never what the device says of itself later.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from nodes.agent.protocol import CLOCK_SKEW_SECONDS, Meter, Method, Reading
from nodes.models import Device, Lease

METHODS: dict[Meter, frozenset[Method]] = {
    Meter.TRANSFER: frozenset({Method.INTERFACE}),
    Meter.STORAGE: frozenset({Method.VOLUME}),
    Meter.COMPUTE: frozenset({Method.PERF, Method.CALIBRATED, Method.CGROUP}),
    Meter.UPTIME: frozenset({Method.CLOCK}),
}
"""How an agent may measure each meter; the ones not here are not an agent's to report."""

SKEW = timedelta(seconds=CLOCK_SKEW_SECONDS)
DRAIN = timedelta(seconds=60)
"""How long after it was closed a lease may go on counting: what a device needs to hear of it and stop cleanly."""

PERF_MARGIN = 4
"""A tight loop may execute several times the instructions per second of the benchmark's mix."""
CALIBRATED_MARGIN_PERCENT = 110
"""CPU time × rate, with room for a quota that is enforced per 100 ms."""
MOST_BYTES_PER_SECOND = 1_250_000_000
"""10 Gbit/s: more than one container's interface on a lent device moves for long."""


def most_possible(reading: Reading, *, lease: Lease, device: Device, now: datetime) -> int:
    """Return the highest total, in the meter's base unit, that this lease can have reached by `now`."""
    if reading.meter is Meter.STORAGE:
        # Data is held, and costs, until it is wiped, though the lease is stopped.
        return lease.disk_bytes * _milliseconds(lease.opened_at, lease.wiped_at or now) // 1000
    ends = [
        now,
        *([lease.stopped_at] if lease.stopped_at else []),
        *([lease.closed_at + DRAIN] if lease.closed_at else []),
    ]
    milliseconds = _milliseconds(lease.opened_at, min(ends))
    if reading.meter is Meter.UPTIME:
        return milliseconds
    if reading.meter is Meter.TRANSFER:
        return MOST_BYTES_PER_SECOND * milliseconds // 1000
    full_speed = device.instructions_per_second * lease.cpu_millis * milliseconds // 1_000_000
    if reading.method is Method.PERF:
        return full_speed * PERF_MARGIN
    return full_speed * CALIBRATED_MARGIN_PERCENT // 100


def _milliseconds(start: datetime, end: datetime) -> int:
    return max(0, (end + SKEW - start) // timedelta(milliseconds=1))
