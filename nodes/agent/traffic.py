"""Bytes in + out of all apps in the owner's month: what a limit per month is held against.

Kept as differences of the meters' totals, so that neither a restart nor a crash loses or repeats any; images count too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nodes.agent import files

log = logging.getLogger(__name__)
KEPT_MONTHS = 3  # a clock set forward and back again finds its month as it was
SAVE_BYTES = 2**20


class Traffic:
    """The months' sums. Safe to call from any thread."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        stored: dict[str, Any] = files.read_json(path) or {}
        self._months: dict[str, int] = stored.get("months", {})
        self._seen: dict[str, int] = stored.get("seen", {})
        self._unsaved = 0

    def add(self, totals: Mapping[str, int], month: str) -> int:
        """Take every lease's total bytes; returns the sum of the month so far."""
        with self._lock:
            grown = sum(max(0, total - self._seen.get(lease_id, 0)) for lease_id, total in totals.items())
            # A total that fell is behind only until it is read again: the agent died between a look and its file.
            self._seen = {lease_id: max(total, self._seen.get(lease_id, 0)) for lease_id, total in totals.items()}
            return self._count(grown, month)

    def add_download(self, size: int, month: str) -> None:
        """Take bytes that came for an app before it ran: its image."""
        with self._lock:
            self._count(size, month)

    def used(self, month: str) -> int:
        with self._lock:
            return self._months.get(month, 0)

    def _count(self, grown: int, month: str) -> int:
        self._months[month] = self._months.get(month, 0) + grown
        self._unsaved += grown
        if self._unsaved >= SAVE_BYTES or len(self._months) > KEPT_MONTHS:
            self._months = dict(sorted(self._months.items())[-KEPT_MONTHS:])
            self._save()
        return self._months.get(month, 0)

    def save(self) -> None:
        with self._lock:
            if self._unsaved:
                self._save()

    def _save(self) -> None:
        # The totals in `seen` are of the same moment as the sums: after a crash the difference is counted then.
        try:
            files.write_json(self._path, {"months": self._months, "seen": self._seen})
            self._unsaved = 0
        except OSError as error:  # a full disk must not lift the owner's limits
            log.error("The month's traffic cannot be kept on disk (%s).", error)
