"""A small HTTP server for strangers, in one thread: a bounded number of connections, each with a deadline, no memory that grows.

Python's own servers take a thread or an unbounded buffer per caller, and one byte a minute holds either for hours. This one
answers one request per connection and closes it (ADR 0722).
"""

from __future__ import annotations

import json
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from nodes.agent.rate import Rate, asker

log = logging.getLogger(__name__)
MOST_CONNECTIONS, MOST_OF_ONE = 64, 16
REQUEST_BYTES = 96 * 1024
SECONDS = 5.0  # from the first byte to the last of a request; as long again for the answer
IDLE_SECONDS = 2.0  # how often deadlines are looked at
PER_SECOND, BURST = 20.0, 60.0

Handler = Callable[[str, str, bytes, str], "tuple[int, object]"]
"""(method, path, body, asker) → (status, JSON or None)."""
_WORDS = {200: "OK", 204: "No Content", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
          413: "Content Too Large", 429: "Too Many Requests", 500: "Internal Server Error"}  # fmt: skip


@dataclass
class _Caller:
    who: str
    until: float
    got: bytearray = field(default_factory=bytearray)
    answer: memoryview = field(default_factory=lambda: memoryview(b""))


class SmallServer(threading.Thread):
    """Serves until `stop`. The handler runs in this thread, so it must be quick and never wait for a network."""

    def __init__(self, address: str, port: int, handler: Handler, *, per_second: float = PER_SECOND) -> None:
        """Raises: OSError: the port is taken."""
        super().__init__(name="directory-http", daemon=True)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, port), family=family, backlog=32)
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self._handler = handler
        self._rate = Rate(per_second, per_second * BURST / PER_SECOND)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._callers: dict[socket.socket, _Caller] = {}
        self._woken, self._waker = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._stopping = False

    def stop(self) -> None:
        self._stopping = True
        with suppress(OSError):  # it was awake, saw it, and has closed its sockets already
            self._waker.send(b"x")
        if self.is_alive():
            self.join(5)

    def run(self) -> None:
        while not self._stopping:
            # Without callers there are no deadlines: an idle server wakes for nobody.
            for key, _ in self._selector.select(IDLE_SECONDS if self._callers else None):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)  # noqa: S101 (all we register)
                if connection is self._listener:
                    self._accept()
                elif connection in self._callers:
                    self._serve(connection)
            self._drop_late()
        for connection in list(self._callers):
            self._drop(connection)
        self._selector.close()
        for last in (self._listener, self._woken, self._waker):
            last.close()

    def _accept(self) -> None:
        try:
            connection, address = self._listener.accept()
        except OSError:
            return
        who = asker(str(address[0]))
        held = sum(caller.who == who for caller in self._callers.values())
        if len(self._callers) >= MOST_CONNECTIONS or held >= MOST_OF_ONE:
            connection.close()
            return
        connection.setblocking(False)
        self._callers[connection] = _Caller(who, time.monotonic() + SECONDS)
        self._selector.register(connection, selectors.EVENT_READ)

    def _serve(self, connection: socket.socket) -> None:
        caller = self._callers[connection]
        try:
            if caller.answer:
                self._write(connection, caller)
            else:
                self._read(connection, caller)
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)

    def _read(self, connection: socket.socket, caller: _Caller) -> None:
        chunk = connection.recv(16_384)
        if not chunk:
            self._drop(connection)
            return
        caller.got += chunk
        head, gap, body = bytes(caller.got).partition(b"\r\n\r\n")
        if not gap and len(caller.got) <= 8192:
            return
        length = _content_length(head) if gap else -1
        if length < 0 or length > REQUEST_BYTES:
            self._reply(connection, caller, 413 if length > REQUEST_BYTES else 400, None)
        elif len(body) >= length:
            self._reply(connection, caller, *self._answer(head, body[:length], caller.who))

    def _answer(self, head: bytes, body: bytes, who: str) -> "tuple[int, object]":
        words = head.split(b"\r\n", 1)[0].split()
        if len(words) != 3:
            return 400, None
        if not self._rate.allows(who, time.monotonic()):
            return 429, None
        try:
            return self._handler(words[0].decode("ascii"), words[1].decode("ascii"), body, who)
        except UnicodeDecodeError:
            return 400, None
        except Exception:  # one odd request must not end the server
            log.exception("A request to the directory failed; going on.")
            return 500, None

    def _reply(self, connection: socket.socket, caller: _Caller, status: int, content: object) -> None:
        body = b"" if content is None else json.dumps(content, separators=(",", ":")).encode()
        head = (
            f"HTTP/1.0 {status} {_WORDS[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "X-Content-Type-Options: nosniff\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n"
        )
        caller.got.clear()
        caller.answer, caller.until = memoryview(head.encode() + body), time.monotonic() + SECONDS
        self._selector.modify(connection, selectors.EVENT_WRITE)
        self._write(connection, caller)

    def _write(self, connection: socket.socket, caller: _Caller) -> None:
        caller.answer = caller.answer[connection.send(caller.answer) :]
        if not caller.answer:
            self._drop(connection)

    def _drop_late(self) -> None:
        now = time.monotonic()
        for connection in [connection for connection, caller in self._callers.items() if caller.until < now]:
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._callers.pop(connection, None)
        self._selector.unregister(connection)
        connection.close()


def _content_length(head: bytes) -> int:
    """Return the length the caller says its body has; -1 when it says it in no way we take."""
    lengths = [
        line.split(b":", 1)[1].strip() for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    ]
    if b"\r\ntransfer-encoding:" in head.lower() or len(lengths) > 1:
        return -1
    return int(lengths[0]) if lengths and lengths[0].isdigit() and len(lengths[0]) < 8 else (-1 if lengths else 0)
