"""What is wanted, what is there and what is remembered of every lease, under one lock that all threads take."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

from nodes.agent import reconcile
from nodes.agent.diagnosis import Finding
from nodes.agent.errors import AgentError
from nodes.agent.executor import Executor
from nodes.agent.protocol import Desired, DesiredLease, Observed, Status
from nodes.agent.reconcile import Note, Seen

UNDER_WAY_SECONDS = 1.0  # a start mostly ends before, and its outcome is told in the same report


class Board:
    """Shared by the loop, its steps and its health monitors."""

    def __init__(self, desired: "Desired | None", executor: Executor) -> None:
        """Args: desired: what the portal wanted last; None: nobody has told us yet, so nothing may be stopped for not being named."""
        self.lock = threading.RLock()
        self.informed = desired is not None
        self.desired = desired or Desired()
        self.seen: dict[str, Seen] = {}
        self.notes: dict[str, Note] = {}
        self.on_news: Callable[[float], None] = lambda seconds: None  # the portal should hear within so long
        self._executor = executor
        self._told: "tuple[Status, ...] | None" = None

    def lease(self, lease_id: str) -> "DesiredLease | None":
        return next((lease for lease in self.desired.leases if lease.lease_id == lease_id), None)

    def note(self, lease_id: str) -> Note:
        return self.notes.get(lease_id) or Note()

    def change(self, lease_id: str, **changes: object) -> None:
        with self.lock:
            self.notes[lease_id] = dataclasses.replace(self.note(lease_id), **changes)  # type: ignore[arg-type]

    def fail(self, lease_id: str, finding: Finding, *, permanent: bool = False) -> None:
        """Note that an attempt failed, with what the container wrote last."""
        try:
            tail = self._executor.log_tail(lease_id)
        except AgentError:
            tail = ""
        with self.lock:
            self.notes[lease_id] = reconcile.after_failure(
                self.note(lease_id),
                time.monotonic(),
                reason=finding.reason,
                message=finding.message,
                log_tail=tail,
                permanent=permanent,
            )

    def statuses(self) -> "tuple[Status, ...]":
        with self.lock:
            return reconcile.statuses(self.desired, self.seen, self.notes)

    def tell(self) -> None:
        """Let the portal hear of it if anything it would see has changed: at once, unless all that is new is under way."""
        with self.lock:
            statuses = self.statuses()
            news = set(statuses) - set(self._told or ())
            changed = statuses != self._told
            self._told = statuses
        if changed:
            self.on_news(UNDER_WAY_SECONDS if news and all(_is_under_way(status) for status in news) else 0.0)


def _is_under_way(status: Status) -> bool:
    return status.observed is Observed.PREPARING and not status.reason
