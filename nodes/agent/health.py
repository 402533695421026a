"""Asks containers whether they are well: each every 15 ms while it starts, then as often as its release says.

One thread asks all of them and waits for none (probe.py): an app that hangs delays no other's uptime, and ten apps cost little more
than one, because those that are due in the same second are asked together (ADR 0314).
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from nodes.agent.probe import Probe
from nodes.agent.protocol import HealthCheck
from nodes.agent.reconcile import Seen

log = logging.getLogger(__name__)
STARTING_SECONDS = 0.015  # an app that is up is seen up at once
EAGER_FOR_SECONDS = 5.0  # then an app that needs longer is asked less often
WAITING_SECONDS = 0.2
GATHER_SECONDS = 0.02  # those that were well answer meanwhile, and are heard without waiting for each
RECHECK_SECONDS = 1.0  # one failed check may be chance; the second says it


class Monitor:
    """One start of one container: what is asked of it, and when next.

    `tell` hears what was found: whether it is well (lives and is ready), and whether it lives at all.

    Attributes:
        due: when it is asked next, on the monotonic clock.
        stopped: nobody wants to hear of it any more.
        well: what the last check found.
    """

    def __init__(
        self, seen: Seen, port: int, check: HealthCheck, tell: "Callable[[Monitor, bool, bool], None]"
    ) -> None:
        self.seen, self.port, self.check, self._tell = seen, port, check, tell
        self.due, self.stopped = 0.0, False
        self._began = time.monotonic()
        self._ever, self.well = False, False

    @property
    def run_id(self) -> str:
        return run_id(self.seen)

    @property
    def pause_ms(self) -> int:
        """How long the release lets pass between two checks."""
        return self.check.interval_seconds * 1000

    def stop(self) -> None:
        self.stopped = True

    def heard(self, *, well: bool, alive: bool) -> None:
        """Take what one check found, and say when the next is due."""
        if well or not self.well:
            try:
                self._tell(self, well, alive)
            finally:
                self.well = well
                self._ever = self._ever or well
                self.due = self._next()
        else:  # the second failure in a row is told as such
            self.well, self.due = False, time.monotonic() + RECHECK_SECONDS

    def _next(self) -> float:
        now = time.monotonic()
        if self.well:  # together with the others that are asked as often
            return (now // self.check.interval_seconds + 1) * self.check.interval_seconds
        if self._ever:
            return now + min(RECHECK_SECONDS, self.check.interval_seconds)
        return now + (STARTING_SECONDS if now - self._began < EAGER_FOR_SECONDS else WAITING_SECONDS)


class _Check:
    """One check under way: whether the container lives, and where there is a `ready_path` then whether it is ready."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor, self.alive = monitor, False
        self.waited_for = 0  # what the selector looks for on its socket; 0: nothing
        check = monitor.check
        self._paths = deque([check.path if check.kind == "http" else "", *filter(None, [check.ready_path])])
        self.ask()

    def ask(self) -> None:
        """Ask what is to be asked next."""
        self.deadline = time.monotonic() + self.monitor.check.timeout_seconds
        self.probe = Probe(self.monitor.seen.address, self.monitor.port, self._paths.popleft())

    def answered(self, answer: bool) -> "bool | None":
        """Take the answer to what was asked last; returns whether the container is well, None if there is more to ask."""
        self.alive = self.alive or answer
        return None if answer and self._paths else answer


class HealthChecks(threading.Thread):
    """The thread that asks. A check that takes its whole time, or is not heard to the end, is that container's alone."""

    def __init__(self) -> None:
        super().__init__(name="health", daemon=True)
        self._new: "deque[Monitor]" = deque()
        self._waiting: "list[Monitor]" = []
        self._checks: "set[_Check]" = set()
        self._selector = selectors.DefaultSelector()
        self._bell, self._hears = socket.socketpair()
        self._selector.register(self._hears, selectors.EVENT_READ)
        self._stopping = False

    def watch(self, monitor: Monitor) -> None:
        """Ask this container too, from now on, until its monitor is stopped."""
        self._new.append(monitor)
        self._bell.send(b"!")

    def stop(self) -> None:
        self._stopping = True
        with suppress(OSError):  # it saw that before it was called
            self._bell.send(b"!")

    def run(self) -> None:
        while not self._stopping:
            self._begin()
            for key, _ in self._selector.select(self._pause()):
                if key.data is None:
                    self._hears.recv(1024)
                else:
                    key.data.probe.go_on()
                    self._look(key.data)
            now = time.monotonic()
            for late in [check for check in self._checks if check.deadline <= now]:
                self._conclude(late, well=False)
        for check in list(self._checks):
            self._let_go(check)
        self._selector.close()
        for end in (self._bell, self._hears):
            end.close()

    def _begin(self) -> None:
        """Ask those that are due."""
        while self._new:
            self._waiting.append(self._new.popleft())
        now = time.monotonic()
        due = [monitor for monitor in self._waiting if monitor.due <= now and not monitor.stopped]
        self._waiting = [monitor for monitor in self._waiting if monitor.due > now and not monitor.stopped]
        begun = [_Check(monitor) for monitor in due]
        self._checks.update(begun)
        if begun and all(check.monitor.well for check in self._checks):
            time.sleep(GATHER_SECONDS)
        for check in begun:
            check.probe.go_on()
            self._look(check)

    def _pause(self) -> "float | None":
        """Return how long nothing has to be done, unless a container answers."""
        moments = [check.deadline for check in self._checks] + [monitor.due for monitor in self._waiting]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _look(self, check: _Check) -> None:
        """See how far a check is after its probe went on; the selector gets those that have to be waited for."""
        while check.probe.answer is not None:
            well = check.answered(check.probe.answer)
            if well is not None:
                self._conclude(check, well=well)
                return
            self._close(check)
            check.ask()
        probe = check.probe
        if not check.waited_for:
            self._selector.register(probe.socket, probe.waits_for, check)
        elif check.waited_for != probe.waits_for:
            self._selector.modify(probe.socket, probe.waits_for, check)
        check.waited_for = probe.waits_for

    def _conclude(self, check: _Check, *, well: bool) -> None:
        self._let_go(check)
        if check.monitor.stopped:
            return
        began = time.monotonic()
        try:
            check.monitor.heard(well=well, alive=check.alive)
        except Exception:  # what goes wrong with one must not end the watch of all
            log.exception("What a health check found could not be noted; going on.")
        self._waiting.append(check.monitor)
        # While a slow disk kept us, nobody was listening to the others.
        kept = time.monotonic() - began
        for other in self._checks:
            other.deadline += kept

    def _let_go(self, check: _Check) -> None:
        self._checks.discard(check)
        self._close(check)

    def _close(self, check: _Check) -> None:
        if check.waited_for:
            self._selector.unregister(check.probe.socket)
            check.waited_for = 0
        check.probe.close()


def run_id(seen: Seen) -> str:
    """Name one start of one container."""
    return f"{seen.container_id[:12]}@{seen.started_at}"
