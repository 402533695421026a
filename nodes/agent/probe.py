"""One question to one container, asked step by step and never waited for: does its port accept, or does GET path answer 200–399?

The container is asked on its own address: Docker's proxy accepts on the published port even when nothing listens behind it.
"""

from __future__ import annotations

import errno
import selectors
import socket

STATUS_LINE_BYTES = 64  # "HTTP/1.1 200" and the beginning of a reason
_HEADERS = "Host: localhost\r\nUser-Agent: interchain-health\r\nConnection: close"
_UNDER_WAY = (0, errno.EINPROGRESS)


class Probe:
    """One connection. Whoever made it calls `go_on` when the socket is ready for `waits_for`, until there is an answer, and then `close`.

    Attributes:
        answer: None while it is open, then whether the container answered as it should.
        waits_for: what `selectors` call EVENT_READ or EVENT_WRITE; 0 once there is an answer.
    """

    def __init__(self, address: str, port: int, path: str) -> None:
        """Args: path: of an HTTP GET; "": it is enough that the port accepts."""
        self.answer: "bool | None" = None
        self.waits_for = selectors.EVENT_WRITE
        self._path, self._line, self._asked = path, b"", False
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self.socket.setblocking(False)
            if not address or not path.isascii() or not path.isprintable() or " " in path:
                raise ValueError("not an address and a path")
            begun = self.socket.connect_ex((address, port))
            if begun not in _UNDER_WAY:
                raise OSError(begun, "cannot be connected")
        except (OSError, ValueError):
            self._end(False)
            return
        self.go_on()  # on the same computer a connection mostly stands by now

    def go_on(self) -> None:
        """Do what can be done without waiting."""
        try:
            if self.answer is not None:
                return
            if self._asked:
                self._hear()
            else:
                self._ask()
        except BlockingIOError:
            pass
        except (OSError, ValueError):
            self._end(False)

    def close(self) -> None:
        self.socket.close()

    def _ask(self) -> None:
        if not self._path:
            try:
                self.socket.getpeername()
                self._end(True)
            except OSError as error:  # not yet, or refused
                failed = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if failed or error.errno != errno.ENOTCONN:
                    self._end(False)
            return
        self.socket.send(f"GET {self._path} HTTP/1.1\r\n{_HEADERS}\r\n\r\n".encode())
        self._asked, self.waits_for = True, selectors.EVENT_READ

    def _hear(self) -> None:
        """Read the first line and no more: http.client would wait for as long as a hostile app goes on with `100 Continue`."""
        chunk = self.socket.recv(STATUS_LINE_BYTES)
        self._line += chunk
        if chunk and b"\n" not in self._line and len(self._line) < STATUS_LINE_BYTES:
            return
        version, status, *_ = self._line.split(maxsplit=2)
        self._end(version.startswith(b"HTTP/1.") and 200 <= int(status) < 400)

    def _end(self, answer: bool) -> None:
        self.answer, self.waits_for = answer, 0
