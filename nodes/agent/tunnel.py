"""Ways for clients to a device that cannot be reached from outside: the system's `ssh` opens a connection to the portal and
lets one port there lead to each app here. The portal decides which port (nodes/gateway/tunnel_server.py)."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nodes.agent import computer, files
from nodes.agent.protocol import Tunnel

log = logging.getLogger(__name__)
LOOK_SECONDS = 1.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
HELD_SECONDS = 10.0  # a tunnel up for so long was a good one


def possible() -> bool:
    """Tell whether this computer has an ssh client."""
    return computer.program("ssh") is not None


@dataclass
class _Way:
    """One app's ssh process, and when the next may start."""

    local_port: int
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    due_at: float = 0.0
    pause: float = FIRST_PAUSE_SECONDS


class Tunnels(threading.Thread):
    """Keeps one ssh process for each running app that the portal gives a port. They end with `stop`, and with the app.

    Args:
        wanted: what the portal says now, and the local port of each running lease.
    """

    def __init__(
        self,
        root: Path,
        *,
        device_id: str,
        key: "Callable[[], bytes]",
        wanted: "Callable[[], tuple[Tunnel, dict[str, int]]]",
    ) -> None:
        super().__init__(name="tunnels", daemon=True)
        self._root, self._device_id, self._key, self._wanted = root, device_id, key, wanted
        self._stopping, self._news = threading.Event(), threading.Event()
        self._ways: "dict[tuple[Tunnel, int], _Way]" = {}

    def run(self) -> None:
        needed = True
        while not self._stopping.is_set():
            try:
                needed = self.look()
            except OSError as error:
                log.warning("Tunnels cannot be kept: %s", error)
            # Most devices need no tunnel, and none of them is to wake up every second for that.
            self._news.wait(LOOK_SECONDS if needed else None)
            self._news.clear()
        for way in self._ways.values():
            _end(way)

    def changed(self) -> None:
        """The portal may want tunnels now."""
        self._news.set()

    def stop(self) -> None:
        self._stopping.set()
        self._news.set()

    def look(self) -> bool:
        """Start what is missing and end what is not wanted any more; returns whether there is anything to look after."""
        tunnel, local_ports = self._wanted()
        wanted = {(tunnel, port): local_ports[lease] for lease, port in tunnel.ports.items() if lease in local_ports}
        for which in [which for which, way in self._ways.items() if wanted.get(which) != way.local_port]:
            _end(self._ways.pop(which))
        now = time.monotonic()
        for which, local_port in wanted.items():
            way = self._ways.setdefault(which, _Way(local_port))
            if way.process is not None and way.process.poll() is not None:
                held = now - way.started_at > HELD_SECONDS
                way.pause = FIRST_PAUSE_SECONDS if held else min(way.pause * 2, LONGEST_PAUSE_SECONDS)
                way.process, way.due_at = None, now + way.pause
                log.warning("The tunnel at port %d broke; again in %.0f s.", which[1], way.pause)
            if way.process is None and now >= way.due_at:
                way.process, way.started_at = self._open(tunnel, which[1], local_port), now
        return bool(tunnel.ports or self._ways)

    def _open(self, tunnel: Tunnel, port: int, local_port: int) -> "subprocess.Popen[bytes]":
        key, known = self._root / "tunnel.key", self._root / "tunnel_known_hosts"
        files.write_atomic(key, self._key())
        files.write_atomic(known, f"[{tunnel.host}]:{tunnel.port} {tunnel.host_key}\n".encode())
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "ExitOnForwardFailure": "yes",
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "2",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(known),
            "GlobalKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
        }
        given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        forward = f"{tunnel.bind}:{port}:127.0.0.1:{local_port}"
        call = ["ssh", "-N", "-T", "-F", "/dev/null", "-i", str(key), *given, "-p", str(tunnel.port), "-R", forward]
        return subprocess.Popen(
            [*call, f"{self._device_id}@{tunnel.host}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )


def _end(way: _Way) -> None:
    if way.process is not None and way.process.poll() is None:
        way.process.terminate()
        try:
            way.process.wait(2)
        except subprocess.TimeoutExpired:
            way.process.kill()
            way.process.wait()
