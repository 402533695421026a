"""Refuses to let many apps vanish at once: rather a mistake of ours than so many stops. What is new is taken all the same.

Of all that was live within the last minute, at most GATEWAY_GUARD_PERCENT may be gone. When it is more, the gateway goes
on serving what it last knew of all of them, until they are live again or staff say that it is right
(`manage.py confirm_routes`).
"""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings

WINDOW_SECONDS = 60.0

Routes = dict[str, dict[str, Any]]


class Guard:
    """Asked at each change of the table. `held` is what is served against it, since `since` (seconds of 1970)."""

    def __init__(self) -> None:
        self.held: Routes = {}
        self.since = 0.0
        self._recent: dict[str, tuple[float, dict[str, Any]]] = {}  # when a name was last live, and how

    def admit(self, wanted: Routes, *, confirmed_at: float = 0.0) -> Routes:
        """Return what to serve.

        Args:
            confirmed_at: when staff last said that a smaller table is right, seconds of 1970; 0 for never.
        """
        now = time.time()
        if self.held and confirmed_at > self.since:
            for name in self.held:
                del self._recent[name]
            self.held = {}
        live = {name: route for name, route in wanted.items() if route["status"] == "live"}
        self._recent |= {name: (now, route) for name, route in (self.held | live).items()}
        self._recent = {name: seen for name, seen in self._recent.items() if seen[0] > now - WINDOW_SECONDS}
        gone = {name: route for name, (_, route) in self._recent.items() if name not in live}
        if len(self._recent) < settings.GATEWAY_GUARD_FROM or (
            len(gone) * 100 <= len(self._recent) * settings.GATEWAY_GUARD_PERCENT
        ):
            self.held = {}
            return wanted
        if not self.held:
            self.since = now
        self.held = gone
        return wanted | gone
