"""Asks one container whether it is well: every 15 ms while it starts, then as often as its release says."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from nodes.agent.protocol import HealthCheck
from nodes.agent.reconcile import Seen

STARTING_SECONDS = 0.015  # an app that is up is seen up at once
EAGER_FOR_SECONDS = 5.0  # then an app that needs longer is asked less often
WAITING_SECONDS = 0.2
STATUS_LINE_BYTES = 64  # "HTTP/1.1 200" and the beginning of a reason
RECHECK_SECONDS = 1.0  # one failed check may be chance; the second says it


def lives(address: str, port: int, check: HealthCheck) -> bool:
    """Whether the container answers as its release says it will.

    It is asked on its own address: Docker's proxy accepts on the published port even when nothing listens behind it.
    """
    return _answers(address, port, check.path if check.kind == "http" else "", check.timeout_seconds)


def ready(address: str, port: int, check: HealthCheck) -> bool:
    """Whether a container that lives may be sent requests."""
    return not check.ready_path or _answers(address, port, check.ready_path, check.timeout_seconds)


def _answers(address: str, port: int, path: str, timeout_seconds: float) -> bool:
    """Whether GET path answers 200–399 in time; without a path, whether the port accepts."""
    deadline = time.monotonic() + timeout_seconds
    try:
        with socket.create_connection((address, port), timeout=timeout_seconds) as connection:
            return not path or 200 <= _status(connection, path, deadline) < 400
    except (OSError, ValueError):
        return False


def _status(connection: socket.socket, path: str, deadline: float) -> int:
    """Return the status an HTTP server answers with. Only the first line is read, and not beyond the deadline:
    http.client would wait for as long as a hostile app goes on with `100 Continue`.

    Raises:
        OSError, ValueError: no answer in time, or none that is HTTP.
    """
    if not path.isascii() or not path.isprintable() or " " in path:
        raise ValueError("not a path")
    headers = "Host: localhost\r\nUser-Agent: interchain-health\r\nConnection: close"
    connection.sendall(f"GET {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode())
    line = b""
    while b"\n" not in line and len(line) < STATUS_LINE_BYTES:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        chunk = connection.recv(STATUS_LINE_BYTES)
        if not chunk:
            break
        line += chunk
    version, status, *_ = line.split(maxsplit=2)
    if not version.startswith(b"HTTP/1."):
        raise ValueError("not HTTP")
    return int(status)


class Monitor(threading.Thread):
    """Watches one start of one container. A thread each, so that an app that hangs delays no other's uptime.

    `tell` hears what it found: whether it is well (lives and is ready), and whether it lives at all.
    """

    def __init__(
        self, seen: Seen, port: int, check: HealthCheck, tell: "Callable[[Monitor, bool, bool], None]"
    ) -> None:
        super().__init__(name=f"health-{seen.lease_id[:8]}", daemon=True)
        self.seen, self._port, self._check, self._tell = seen, port, check, tell
        self._stopping = threading.Event()
        self._began = time.monotonic()
        self._ever, self._well = False, False

    @property
    def run_id(self) -> str:
        return run_id(self.seen)

    @property
    def pause_ms(self) -> int:
        """How long the release lets pass between two checks."""
        return self._check.interval_seconds * 1000

    def run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            alive = lives(self.seen.address, self._port, self._check)
            well = alive and ready(self.seen.address, self._port, self._check)
            if self._stopping.is_set():
                return
            if well or not self._well:
                self._tell(self, well, alive)
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
