"""How long to stay away from the portal: what it asks for, or else a random time that grows with each failure.

Full jitter: anything from nothing to a bound that doubles, so that thousands of devices cut off in one moment come back spread over
it. What the portal asks for is never shortened, only lengthened by up to half, and bounded: a portal gone mad keeps nobody away
for longer than an hour.
"""

from __future__ import annotations

import random
import re

MOST_ASKED_SECONDS = 3600.0
_RETRY_AFTER = re.compile(r"(?:retry-after=)?([0-9]{1,9})(?:;|$)")


def asked(text: "str | None") -> float:
    """Return the seconds in a `Retry-After` header, or in a close reason that begins with `retry-after=`; 0: neither."""
    found = _RETRY_AFTER.match((text or "").strip())
    return min(float(found.group(1)), MOST_ASKED_SECONDS) if found else 0.0


def obey(seconds: float) -> float:
    """Return how long to stay away when the portal asked for so many seconds."""
    return min(seconds, MOST_ASKED_SECONDS) * random.uniform(1.0, 1.5)  # noqa: S311 (not a secret)


class Backoff:
    """Pauses between attempts to do one thing."""

    def __init__(self, *, first_seconds: float, most_seconds: float) -> None:
        self._first, self._most, self._failures = first_seconds, most_seconds, 0

    def worked(self) -> None:
        """The thing went well for long enough: begin with short pauses again."""
        self._failures = 0

    def next(self) -> float:
        """Return the next pause in seconds."""
        bound = min(self._first * 2 ** min(self._failures, 16), self._most)
        self._failures += 1
        return random.uniform(0.0, bound)  # noqa: S311
