"""How long a device's link stays down: as long as the portal asked for, or a random while (backoff.py)."""

from __future__ import annotations

from nodes.agent import backoff
from nodes.agent.backoff import Backoff

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
STABLE_SECONDS = 30.0  # a link up for so long was a good one
RESTART_SECONDS = 10.0  # over which devices come back to a portal that restarts
CLOSE_RESTART = 1012


class LinkPauses:
    """The pauses of one device."""

    def __init__(self) -> None:
        self._backoff = Backoff(first_seconds=FIRST_PAUSE_SECONDS, most_seconds=LONGEST_PAUSE_SECONDS)

    def next(self, *, held_seconds: float, code: "int | None", reason: str) -> "tuple[float, float]":
        """Return how long the portal wants this device to stay away, and how long it stays away beyond that, in seconds.

        Args:
            held_seconds: how long the attempt, or the link, lasted.
            code: of the close frame; None: the link broke, or was never open.
        """
        if held_seconds > STABLE_SECONDS:
            self._backoff.worked()
        asked = backoff.obey(backoff.asked(reason)) if reason.startswith("retry-after=") else 0.0
        if code == CLOSE_RESTART and not asked:
            return Backoff(first_seconds=RESTART_SECONDS, most_seconds=RESTART_SECONDS).next(), 0.0
        return asked, max(0.0, self._backoff.next() - asked)
