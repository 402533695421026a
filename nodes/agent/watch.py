"""Keeps exactly one health monitor for each start of each container that should run, and notes what they find."""

from __future__ import annotations

import time
from collections.abc import Callable

from nodes.agent import diagnosis
from nodes.agent.board import Board
from nodes.agent.health import HealthChecks, Monitor, run_id
from nodes.agent.meter import Meters, now_ms
from nodes.agent.protocol import Action, DesiredLease, Reason
from nodes.agent.reconcile import Note, Seen

HINT_AFTER_SECONDS = 5.0  # a start that takes longer gets a first guess why


class Watch:
    """The monitors of all running leases."""

    def __init__(self, board: Board, meters: Meters, *, wake: "Callable[[], None]") -> None:
        self._board, self._meters, self._wake = board, meters, wake
        self._monitors: dict[str, Monitor] = {}
        self._checks: "HealthChecks | None" = None  # from the first lease on

    def keep(self) -> None:
        """Start the monitors that are missing, end those whose container is gone or no longer wanted."""
        with self._board.lock:
            wanted = {lease.lease_id: lease for lease in self._board.desired.leases if lease.action is Action.RUN}
            for lease_id, monitor in list(self._monitors.items()):
                seen = self._board.seen.get(lease_id)
                if lease_id not in wanted or seen is None or not seen.running or run_id(seen) != monitor.run_id:
                    self.drop(lease_id)
            for lease_id, lease in wanted.items():
                seen, note = self._board.seen.get(lease_id), self._board.note(lease_id)
                if seen is not None and seen.running and not note.failed and not note.busy:
                    self.add(seen, lease)

    def add(self, seen: Seen, lease: DesiredLease) -> None:
        """Watch one start of one container from now on."""
        with self._board.lock:
            if seen.lease_id in self._monitors:
                return
            self._board.change(seen.lease_id, running_since=time.monotonic(), was_healthy=False, healthy=False)
            monitor = Monitor(seen, lease.workload.port, lease.workload.health, self._hear)
            self._monitors[seen.lease_id] = monitor
            if self._checks is None:
                self._checks = HealthChecks()
                self._checks.start()
            self._checks.watch(monitor)

    def drop(self, lease_id: str) -> None:
        """Stop watching; from now on the lease is not healthy and its uptime does not grow."""
        with self._board.lock:
            monitor = self._monitors.pop(lease_id, None)
            if monitor is not None:
                monitor.stop()
                self._meters.unhealthy(lease_id)
                self._board.change(lease_id, healthy=False)

    def stop(self) -> None:
        """End every monitor because the agent ends; uptime goes on where the next one takes over."""
        with self._board.lock:
            for monitor in self._monitors.values():
                monitor.stop()
            self._monitors.clear()
            if self._checks is not None:
                self._checks.stop()
                self._checks = None

    def _hear(self, monitor: Monitor, well: bool, alive: bool) -> None:
        """Take one result, in the thread that asks."""
        lease_id, at_ms = monitor.seen.lease_id, now_ms()
        with self._board.lock:
            if self._monitors.get(lease_id) is not monitor:
                return
            note = self._board.note(lease_id)
            if note.failed:  # given up, and about to be ended: that it still answers changes neither that nor why
                return
            if well:
                self._well(lease_id, monitor, note, at_ms)
            elif (lease := self._board.lease(lease_id)) is not None and (
                note.healthy or note.alive != alive or _deserves_hint(note)
            ):
                self._unwell(lease, monitor, note, alive=alive)
        if well and not note.healthy:  # from here on uptime counts, also if the agent is killed before the next reading
            self._meters.save_if_possible()

    def _well(self, lease_id: str, monitor: Monitor, note: Note, at_ms: int) -> None:
        self._meters.healthy(lease_id, monitor.run_id, at_ms, pause_ms=monitor.pause_ms)
        if not note.healthy:
            news = {"reason": Reason.NONE, "message": "", "log_tail": ""}
            since = time.monotonic()
            self._board.change(lease_id, healthy=True, was_healthy=True, alive=True, healthy_since=since, **news)
            self._board.tell()

    def _unwell(self, lease: DesiredLease, monitor: Monitor, note: Note, *, alive: bool) -> None:
        self._meters.unhealthy(lease.lease_id)
        found = diagnosis.unwell(monitor.seen, lease.workload, alive=alive)
        since = time.monotonic() if note.healthy or note.alive else note.unhealthy_since
        told = {"reason": found.reason, "message": found.message}
        self._board.change(lease.lease_id, healthy=False, alive=alive, unhealthy_since=since, **told)
        self._board.tell()
        self._wake()


def _deserves_hint(note: Note) -> bool:
    return not note.was_healthy and not note.message and time.monotonic() - note.running_since > HINT_AFTER_SECONDS
