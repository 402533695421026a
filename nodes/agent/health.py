"""Asks one container whether it is well: every 15 ms while it starts, then as often as its release says."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable

from nodes.agent.protocol import HealthCheck
from nodes.agent.reconcile import Seen

STARTING_SECONDS = 0.015  # an app that is up is seen up at once
EAGER_FOR_SECONDS = 5.0  # then an app that needs longer is asked less often
WAITING_SECONDS = 0.2
RECHECK_SECONDS = 1.0  # one failed check may be chance; the second says it


def probe(address: str, port: int, check: HealthCheck) -> bool:
    """Whether the container answers as its release says it will.

    It is asked on its own address: Docker's proxy accepts on the published port even when nothing listens behind it.
    """
    try:
        if check.kind == "tcp":
            with socket.create_connection((address, port), timeout=check.timeout_seconds):
                return True
        connection = http.client.HTTPConnection(address, port, timeout=check.timeout_seconds)
        try:
            connection.request("GET", check.path, headers={"Host": "localhost", "User-Agent": "interchain-health"})
            return 200 <= connection.getresponse().status < 400
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError):
        return False


class Monitor(threading.Thread):
    """Watches one start of one container. A thread each, so that an app that hangs delays no other's uptime."""

    def __init__(self, seen: Seen, port: int, check: HealthCheck, tell: "Callable[[Monitor, bool], None]") -> None:
        super().__init__(name=f"health-{seen.lease_id[:8]}", daemon=True)
        self.seen, self._port, self._check, self._tell = seen, port, check, tell
        self._stopping = threading.Event()
        self._began = time.monotonic()
        self._ever, self._well = False, False

    @property
    def run_id(self) -> str:
        return run_id(self.seen)

    def run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            well = probe(self.seen.address, self._port, self._check)
            if self._stopping.is_set():
                return
            if well or not self._well:
                self._tell(self, well)
                self._well = well
                self._ever = self._ever or well
                pause = self._pause()
            else:
                # The second failure in a row is told as such.
                self._well, pause = False, RECHECK_SECONDS

    def _pause(self) -> float:
        if self._well:
            return float(self._check.interval_seconds)
        if self._ever:
            return min(RECHECK_SECONDS, self._check.interval_seconds)
        return STARTING_SECONDS if time.monotonic() - self._began < EAGER_FOR_SECONDS else WAITING_SECONDS

    def stop(self) -> None:
        self._stopping.set()


def run_id(seen: Seen) -> str:
    """Name one start of one container."""
    return f"{seen.container_id[:12]}@{seen.started_at}"
