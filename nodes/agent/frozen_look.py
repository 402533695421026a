"""Whether an app stands still while its files are counted, so that it cannot fill the disk meanwhile.

Counting takes 3 microseconds for each file, and an app decides how many it has. Told now and then while one app is looked at, this
freezes it when all of these are so:

1. the look has taken `SLOW_SECONDS` already: apps with few files are never frozen;
2. the disk has lost more room since the app's last look than the app has left: else it cannot be beyond its limit;
3. the disk loses room quickly right now.

Once it stands still the disk tells who it was: goes on filling at half of that pace or more, it is somebody else, and the app goes on
for the rest of this look's next `ABSOLVED_SECONDS`. No app stands still longer than `LONGEST_SECONDS` at a time; between two such times it
runs for `BREATH_SECONDS`, and answers who calls it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from nodes.agent.freezer import Freezer
from nodes.agent.reconcile import Seen

SLOW_SECONDS = 0.2
SAMPLE_SECONDS = 0.1  # an app with a processor quota runs in turns of this length (sandbox.PERIOD_MICROSECONDS)
LONGEST_SECONDS = 0.8
BREATH_SECONDS = 0.1
ABSOLVED_SECONDS = 2.0
FAST_BYTES_PER_SECOND = 16 * 2**20


class FrozenLook:
    """One look at one app. Call `progress` often, and `end` whatever happens."""

    def __init__(
        self,
        seen: Seen,
        freezer: Freezer,
        room: "Callable[[], int]",
        *,
        left: float,
        clock: "Callable[[], float]" = time.monotonic,
    ) -> None:
        """Args: room: bytes free on the disk. left: bytes it may lose before the app can be beyond its limit."""
        self._seen, self._freezer, self._room, self._clock = seen, freezer, room, clock
        self._least_room = room() - left
        self._next = clock() + SLOW_SECONDS - SAMPLE_SECONDS
        self._sample: "tuple[float, int] | None" = (
            None  # when the disk was looked at last while the app ran, and its room
        )
        self._pace = 0.0  # bytes a second the disk lost before the app was frozen
        self._frozen_at: "float | None" = None
        self._still: "tuple[float, int] | None" = None  # since when all of it stands still, and the room then
        self.seconds = 0.0  # it stood still so far

    def progress(self) -> None:
        """Look at the disk if it is time, and freeze the app or let it go on."""
        now = self._clock()
        if now < self._next:
            return
        self._next, room = now + SAMPLE_SECONDS, self._room()
        if self._frozen_at is None:
            self._consider(now, room)
        elif self._is_somebody_else(now, room):
            self._go_on(now, ABSOLVED_SECONDS)
        elif now - self._frozen_at >= LONGEST_SECONDS - SAMPLE_SECONDS:
            self._go_on(now, BREATH_SECONDS)

    def end(self) -> float:
        """Let the app go on; returns the seconds it stood still during this look."""
        self._thaw()
        return self.seconds

    def _consider(self, now: float, room: int) -> None:
        before, self._sample = self._sample, (now, room)
        if before is None or room > self._least_room:
            return
        self._pace = (before[1] - room) / (now - before[0])
        if self._pace >= FAST_BYTES_PER_SECOND and self._freezer.freeze(self._seen):
            self._frozen_at, self._still = now, None

    def _is_somebody_else(self, now: float, room: int) -> bool:
        if self._still is None:  # what its processes had begun in the kernel goes to its end, and says nothing
            if self._freezer.is_still(self._seen.lease_id):
                self._still = now, room
            return False
        since, then = self._still
        return (then - room) / (now - since) >= self._pace / 2

    def _go_on(self, now: float, seconds: float) -> None:
        self._thaw()
        self._next = now + seconds
        self._sample = None
        if seconds <= SAMPLE_SECONDS:
            self._sample = now, self._room()

    def _thaw(self) -> None:
        if self._frozen_at is not None:
            self.seconds += self._freezer.thaw(self._seen.lease_id)
            self._frozen_at = None
