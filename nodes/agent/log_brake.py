"""Holds what apps write to their output back to a pace that costs the device nothing.

Docker takes an app's output as fast as it comes, in its own process, outside the app's quota: an app that writes as fast as it can
keeps the rest of the device waiting (bench/sandbox). But Docker passes output on to each reader in turn, and waits for one that has
a megabyte left to read. So the agent reads along, slowly, and throws away what it reads: the app waits when it writes more, as with any
full pipe, and Docker's own log stays whole. Without the agent the output is as fast as it was before.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field

from nodes.agent.engine import Engine, EngineDown, EngineError

log = logging.getLogger(__name__)
BYTES_PER_SECOND = 256 * 1024  # some 3,000 lines; an app that says more says it to nobody: two files of 1 MB are kept
BURST_BYTES = 1024 * 1024  # a start's long stack trace goes out at once
CHUNK_BYTES = 65_536


@dataclass(eq=False)
class _Output:
    """One container's output as it is read."""

    container_id: str
    stream: socket.socket
    paid_until: float = field(default_factory=time.monotonic)

    def spend(self, count: int) -> None:
        """Take note of bytes read; none more should be before `paid_until`."""
        since = max(self.paid_until, time.monotonic() - BURST_BYTES / BYTES_PER_SECOND)
        self.paid_until = since + count / BYTES_PER_SECOND


class LogBrake:
    """One thread that reads along with all containers it was told of; it starts with the first."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._wanted: list[str] = []
        self._selector = selectors.DefaultSelector()
        self._waiting: list[_Output] = []
        self._bell: "socket.socket | None" = None

    def hold(self, container_id: str) -> None:
        """Read along with a running container from now on, until it ends. Returns at once; again changes nothing."""
        with self._lock:
            if container_id in self._known:
                return
            self._known.add(container_id)
            self._wanted.append(container_id)
            if self._bell is None:
                self._bell, hears = socket.socketpair()
                self._selector.register(hears, selectors.EVENT_READ)
                threading.Thread(target=self._run, name="log brake", daemon=True).start()
            self._bell.send(b"!")

    def _run(self) -> None:
        while True:
            now = time.monotonic()
            for output in [output for output in self._waiting if output.paid_until <= now]:
                self._waiting.remove(output)
                self._selector.register(output.stream, selectors.EVENT_READ, output)
            until = min((output.paid_until for output in self._waiting), default=None)
            for key, _ in self._selector.select(None if until is None else max(0.0, until - now)):
                if isinstance(key.data, _Output):
                    self._read(key.data)
                else:
                    key.fileobj.recv(1024)  # type: ignore[union-attr]
                    self._attach_wanted()

    def _attach_wanted(self) -> None:
        with self._lock:
            wanted, self._wanted = self._wanted, []
        for container_id in wanted:
            query = {"stream": "1", "stdout": "1", "stderr": "1"}
            try:
                stream = self._engine.attach(f"/containers/{container_id}/attach", query=query)
            except (
                EngineError,
                EngineDown,
            ) as error:  # it ended already, or Docker restarts: the next look tries again
                log.debug("The output of %s is not held back: %s", container_id[:12], error)
                self._forget(container_id)
                continue
            self._selector.register(stream, selectors.EVENT_READ, _Output(container_id, stream))

    def _read(self, output: _Output) -> None:
        try:
            count = len(output.stream.recv(CHUNK_BYTES))
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if count == 0:
            self._selector.unregister(output.stream)
            output.stream.close()
            self._forget(output.container_id)
            return
        output.spend(count)
        if output.paid_until > time.monotonic():
            self._selector.unregister(output.stream)
            self._waiting.append(output)

    def _forget(self, container_id: str) -> None:
        with self._lock:
            self._known.discard(container_id)
