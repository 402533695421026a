"""When the portal answered last, and since when it does not."""

from __future__ import annotations

import time
from collections.abc import Callable

LATE_SECONDS = 3.0  # a portal that has not answered a question for so long counts as silent since the question


class Contact:
    """Written by the courier, read by the directory. Times are of the monotonic clock, in seconds."""

    def __init__(self) -> None:
        self.answered_at = time.monotonic()  # a start counts as contact: nobody was asked before
        self.ever_answered = False
        self._asked_at: "float | None" = None  # the oldest question without an answer
        self._failed = False
        self.on_informed: Callable[[], None] = lambda: None
        self.on_returned: Callable[[], None] = lambda: None  # it answers again, after it did not

    @property
    def failing_since(self) -> "float | None":
        """Since when the portal does not answer; None: it does, as far as is known."""
        asked_at = self._asked_at
        if asked_at is None or not (self._failed or time.monotonic() - asked_at > LATE_SECONDS):
            return None
        return asked_at

    def asked(self) -> None:
        """The portal is being asked something now."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()

    def answered(self) -> None:
        returned = self._failed
        self.answered_at, self._asked_at, self._failed, self.ever_answered = time.monotonic(), None, False, True
        if returned:
            self.on_returned()

    def informed(self) -> None:
        """The portal said what it wants now, or that it wants what it wanted before."""
        self.answered()
        self.on_informed()

    def failed(self) -> None:
        self.asked()
        self._failed = True

    def refused(self) -> None:
        """It answers, but says no more than that it will not."""
        self._asked_at, self._failed = None, False
