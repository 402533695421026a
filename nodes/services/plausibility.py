"""What a device can possibly have used. A claim above is capped, noted (`CappedClaim`), and paid only up to here.

Two bounds hold for each meter. The lease's: its share of the device, from when it was opened until it ended. The device's: what
the leases opened since some moment used together, the whole device must have been able to do since that moment.
Both go by the portal's clock, by the lease as it was opened and the device as it was enrolled: not by what the device says later, nor
by what its owner lends today, for a limit lowered now must not undo what was used before. A rate that spot checks prove changes what is
possible from then on, and nothing before (`Device.rates`).
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
NEW_RATE_HEARD_WITHIN = timedelta(seconds=60)
"""How long after a lower rate was proven a device may count by the one before: it has to hear of it. As for the end of a lease."""
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
    replaces: UUID | None = None
    uptime_from: datetime | None = None
    uptime_until: datetime | None = None
    totals: dict[Meter, int] = field(default_factory=dict)

    def ends(self, meter: Meter, now: datetime) -> datetime:
        """Return until when it can have counted. Data is held, and costs, until it is wiped, though the lease is stopped."""
        if meter is Meter.STORAGE:
            return self.fenced_at or self.wiped_at or now
        ends = (now, self.stopped_at, self.fenced_at, self.closed_at + DRAIN if self.closed_at else None)
        return min(end for end in ends if end is not None)


class Bounds:
    """What one device's leases can have reached by `now`; keeps account of what it has granted."""

    def __init__(self, device: Device, leases: Iterable[Counted], now: datetime) -> None:
        self._device, self._now = device, now
        self._leases = sorted(leases, key=lambda lease: lease.opened_at)
        self._place = {lease.lease_id: place for place, lease in enumerate(self._leases)}
        self._used: dict[Meter, list[int]] = {}
        self._most: dict[tuple[Meter, Method], list[int]] = {}

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
        most, used = self._most_since(meter, method), self._used_since(meter)
        return max(0, min(most[earlier] - used[earlier] for earlier in range(place + 1)))

    def _most_since(self, meter: Meter, method: Method) -> list[int]:
        """Return for each lease what the whole device can have done since it was opened."""
        if (meter, method) not in self._most:
            self._most[meter, method] = [
                most_of_device(self._device, meter, method, lease.opened_at, self._now) for lease in self._leases
            ]
        return self._most[meter, method]

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
    ends = lease.ends(meter, now)
    if meter is Meter.COMPUTE:
        return instructions_of_core(device, method, lease.opened_at, ends) * lease.cpu_millis // 1000
    milliseconds = _milliseconds(lease.opened_at, ends)
    if meter is Meter.UPTIME:
        return milliseconds
    if meter is Meter.TRANSFER:
        return link_bytes_per_second(device) * milliseconds // 1000
    return lease.disk_bytes * milliseconds // 1000 if lease.has_volume else 0


def most_of_device(device: Device, meter: Meter, method: Method, start: datetime, end: datetime) -> int:
    """Return how much of a meter, in base units, the whole device can do in a time; what it has counts, not what is lent."""
    if meter is Meter.COMPUTE:
        return instructions_of_core(device, method, start, end) * device.had("cpu_millis") // 1000
    rate = link_bytes_per_second(device) if meter is Meter.TRANSFER else device.had("disk_bytes")
    return rate * _milliseconds(start, end) // 1000


def link_bytes_per_second(device: Device) -> int:
    return DIRECTIONS * (device.had("link_bytes_per_second") or USUAL_LINK_BYTES_PER_SECOND)


def instructions_of_core(device: Device, method: Method, start: datetime, end: datetime) -> int:
    """Return how many instructions one core of the device can have executed in a time, as this method would count them: by the
    rates that were in force then."""
    margin = PERF_MARGIN_PERCENT if method is Method.PERF else CALIBRATED_MARGIN_PERCENT
    total, until = 0, end + SKEW
    for since, rate in reversed(_rates_heard(device)):
        begins = max(start, since) if since else start
        if begins < until:
            per_second = min(rate * margin // 100, MOST_INSTRUCTIONS_PER_SECOND)
            total += per_second * ((until - begins) // timedelta(milliseconds=1)) // 1000
            until = begins
    return total


def _rates_heard(device: Device) -> list[tuple[datetime | None, int]]:
    """Return the device's rates, oldest first, each with when it counts from: a lower one once the device has heard of it."""
    heard: list[tuple[datetime | None, int]] = []
    for since, rate in device.rates:
        lower = bool(heard) and rate < heard[-1][1]
        heard.append((since + NEW_RATE_HEARD_WITHIN if since and lower else since, rate))
    return heard


def _milliseconds(start: datetime, end: datetime) -> int:
    return max(0, (end + SKEW - start) // timedelta(milliseconds=1))
