"""What a device can possibly have used. A claim above is capped, noted (`CappedClaim`), and paid only up to here.

Two bounds hold for each meter. The lease's: its share of the device, from when it was opened until it ended. The device's: what
the leases opened since some moment used together, the whole device must have been able to do since that moment.
Both go by the portal's clock, by the lease as it was opened and the device as it was enrolled: not by what the device says later, nor
by what its owner lends today, for a limit lowered now must not undo what was used before.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from nodes.agent.protocol import CLOCK_SKEW_SECONDS, Meter, Method
from nodes.models import Device

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

PERF_MARGIN_PERCENT = 400
"""A tight loop may execute several times the instructions per second of the benchmark's mix."""
CALIBRATED_MARGIN_PERCENT = 110
"""CPU time × rate, with room for a quota that is enforced per 100 ms."""
MOST_INSTRUCTIONS_PER_SECOND = 30_000_000_000
"""More than any core of today: 6 GHz at five instructions a cycle."""
USUAL_LINK_BYTES_PER_SECOND = 125_000_000
"""1 Gbit/s, for a device that does not know how fast its network interface is (Wi-Fi, most virtual ones)."""
DIRECTIONS = 2
"""Bytes in and bytes out are both counted, and a link carries both at once."""


@dataclass(frozen=True)
class Counted:
    """One lease of a device, as far as bounds need it, and its totals so far, which grow with what is granted."""

    lease_id: UUID
    generation: int
    cpu_millis: int
    disk_bytes: int
    has_volume: bool
    opened_at: datetime
    closed_at: datetime | None
    stopped_at: datetime | None
    wiped_at: datetime | None
    fenced_at: datetime | None = None
    totals: dict[Meter, int] = field(default_factory=dict)

    def milliseconds(self, meter: Meter, now: datetime) -> int:
        """Return for how long it can have counted. Data is held, and costs, until it is wiped, though the lease is stopped."""
        if meter is Meter.STORAGE:
            return _milliseconds(self.opened_at, self.fenced_at or self.wiped_at or now)
        ends = (now, self.stopped_at, self.fenced_at, self.closed_at + DRAIN if self.closed_at else None)
        return _milliseconds(self.opened_at, min(end for end in ends if end is not None))


class Bounds:
    """What one device's leases can have reached by `now`; keeps account of what it has granted."""

    def __init__(self, device: Device, leases: Iterable[Counted], now: datetime) -> None:
        self._device, self._now = device, now
        self._leases = sorted(leases, key=lambda lease: lease.opened_at)
        self._place = {lease.lease_id: place for place, lease in enumerate(self._leases)}
        self._since = [_milliseconds(lease.opened_at, now) for lease in self._leases]
        self._used: dict[Meter, list[int]] = {}

    def grant(self, lease_id: UUID, meter: Meter, method: Method, claim: int) -> int:
        """Return how much of this claimed total, in the meter's base unit, is possible; never less than stands already."""
        place = self._place[lease_id]
        lease = self._leases[place]
        stands = lease.totals.get(meter, 0)
        if claim <= stands:
            return claim
        most = most_of_lease(lease, self._device, meter, method, self._now)
        if meter is not Meter.UPTIME:
            most = min(most, stands + self._room(place, meter, method))
        granted = max(stands, min(claim, most))
        self._take(place, meter, granted - stands)
        lease.totals[meter] = granted
        return granted

    def _room(self, place: int, meter: Meter, method: Method) -> int:
        """Return how much more the device can have done, in the tightest of the stretches of time this lease is part of."""
        rate, used = rate_of_device(self._device, meter, method), self._used_since(meter)
        return max(0, min(rate * self._since[earlier] // 1000 - used[earlier] for earlier in range(place + 1)))

    def _used_since(self, meter: Meter) -> list[int]:
        """Return for each lease what it and those opened after it have used together."""
        if meter not in self._used:
            newest_first = itertools.accumulate(lease.totals.get(meter, 0) for lease in reversed(self._leases))
            self._used[meter] = list(newest_first)[::-1]
        return self._used[meter]

    def _take(self, place: int, meter: Meter, amount: int) -> None:
        used = self._used_since(meter)
        for earlier in range(place + 1):
            used[earlier] += amount


def most_of_lease(lease: Counted, device: Device, meter: Meter, method: Method, now: datetime) -> int:
    """Return the highest total, in the meter's base unit, that this lease by itself can have reached by `now`."""
    milliseconds = lease.milliseconds(meter, now)
    if meter is Meter.UPTIME:
        return milliseconds
    if meter is Meter.TRANSFER:
        return rate_of_device(device, meter, method) * milliseconds // 1000
    if meter is Meter.STORAGE:
        return lease.disk_bytes * milliseconds // 1000 if lease.has_volume else 0
    return instructions_per_core(device, method) * lease.cpu_millis * milliseconds // 1_000_000


def rate_of_device(device: Device, meter: Meter, method: Method) -> int:
    """Return how much of a meter the whole device can do in a second, in base units; what it has counts, not what is lent."""
    if meter is Meter.TRANSFER:
        return DIRECTIONS * (device.had("link_bytes_per_second") or USUAL_LINK_BYTES_PER_SECOND)
    if meter is Meter.STORAGE:
        return device.had("disk_bytes")
    return instructions_per_core(device, method) * device.had("cpu_millis") // 1000


def instructions_per_core(device: Device, method: Method) -> int:
    """Return how many instructions a second one core of the device can execute, as this method would count them."""
    margin = PERF_MARGIN_PERCENT if method is Method.PERF else CALIBRATED_MARGIN_PERCENT
    return min(device.instructions_per_second * margin // 100, MOST_INSTRUCTIONS_PER_SECOND)


def _milliseconds(start: datetime, end: datetime) -> int:
    return max(0, (end + SKEW - start) // timedelta(milliseconds=1))
