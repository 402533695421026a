"""Finds the apps that go on writing while the disk of Docker's data is nearly full, before what they wrote can no longer be kept.

An app's volume and layer are sparse files: what it writes is taken from the disk later, by the kernel, which then can only lose it. So
what is written and has no place on the disk yet counts as taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

RESERVE_BYTES = 256 * 2**20  # what an ordinary app's memory holds of what it wrote, and a moment of a fast disk
WATCHED_BYTES = 8 * RESERVE_BYTES  # with more free nobody is looked at
GROWN_BYTES = 2**20  # an app that writes less may go on


@dataclass(frozen=True)
class Place:
    """Where an app writes: the file system as the app sees it, and the file that holds it."""

    lease_id: str
    inside: str
    image: Path


class DiskReserve:
    """For one thread."""

    def __init__(self) -> None:
        self._before: dict[
            Place, int
        ] = {}  # what each held when it was looked at last, or when the disk became nearly full

    def growing(self, places: Iterable[Place], free: int) -> "set[str]":
        """Return the leases that grew since less than the reserve is left.

        Args:
            free: bytes that are free on the disk now.
        """
        held: dict[Place, int] = {}
        waiting = 0
        for place in places:
            with suppress(OSError):  # it has ended meanwhile
                found = os.statvfs(place.inside)
                held[place] = (found.f_blocks - found.f_bfree) * found.f_frsize
                waiting += max(0, held[place] - place.image.stat().st_blocks * 512)
        if free - waiting >= RESERVE_BYTES:
            self._before = held
            return set()
        self._before = {place: min(now, self._before.get(place, now)) for place, now in held.items()}
        return {place.lease_id for place, now in held.items() if now - self._before[place] >= GROWN_BYTES}
