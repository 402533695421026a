"""When the portal answered last, and since when it does not."""

from __future__ import annotations

import time
from collections.abc import Callable


class Contact:
    """Written by the courier, read by the directory. Times are of the monotonic clock, in seconds."""

    def __init__(self) -> None:
        self.answered_at = time.monotonic()  # a start counts as contact: nobody was asked before
        self.ever_answered = False
        self.failing_since: "float | None" = None
        self.on_informed: Callable[[], None] = lambda: None

    def answered(self) -> None:
        self.answered_at, self.failing_since, self.ever_answered = time.monotonic(), None, True

    def informed(self) -> None:
        """The portal said what it wants now, or that it wants what it wanted before."""
        self.answered()
        self.on_informed()

    def failed(self) -> None:
        if self.failing_since is None:
            self.failing_since = time.monotonic()
