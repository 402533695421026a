"""The health probe: what counts as living and as ready, and that no app can hold it up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from nodes.agent.health import lives, ready
from nodes.agent.protocol import HealthCheck


@contextmanager
def answering(text: bytes, *, times: int = 1, pause: float = 0) -> Iterator[int]:
    """A server that answers one request with the text again and again; yields its port."""

    def serve() -> None:
        with suppress(OSError), server.accept()[0] as connection:
            connection.recv(4096)
            for _ in range(times):
                connection.sendall(text)
                time.sleep(pause)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.0 302 Found\r\nLocation: /x\r\n\r\n", True),
        (b"HTTP/1.1 204\r\n\r\n", True),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", False),
        (b"HTTP/1.1 500 \r\n\r\n", False),
        (b"SSH-2.0-OpenSSH\r\n", False),
        (b"HTTP/1.1 two hundred\r\n", False),
        (b"x" * 1000, False),
        (b"", False),
    ],
)
def test_the_first_line_tells(answer: bytes, well: bool) -> None:
    with answering(answer) as port:
        assert lives("127.0.0.1", port, HealthCheck(kind="http", timeout_seconds=2)) is well


@pytest.mark.parametrize(
    ("answer", "pause"), [(b"HTTP/1.1 100 Continue\r\n\r\n", 0.001), (b"H", 0.2)], ids=["goes on", "drips"]
)
def test_an_app_cannot_hold_the_probe(answer: bytes, pause: float) -> None:
    with answering(answer, times=int(4 / pause), pause=pause) as port:
        began = time.monotonic()
        assert not lives("127.0.0.1", port, HealthCheck(kind="http", timeout_seconds=1))
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("path", ["/ x", "/\r\nX: y", "/é"])
def test_a_path_is_nothing_but_a_path(path: str) -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\n") as port:
        assert not lives("127.0.0.1", port, HealthCheck(kind="http", path=path))


@pytest.mark.parametrize(
    ("answer", "is_ready"), [(b"HTTP/1.1 200 OK\r\n\r\n", True), (b"HTTP/1.1 503 \r\n\r\n", False)]
)
def test_what_lives_is_ready_when_its_ready_path_answers(answer: bytes, is_ready: bool) -> None:
    with answering(answer) as port:
        assert ready("127.0.0.1", port, HealthCheck(ready_path="/ready", timeout_seconds=2)) is is_ready


def test_without_a_ready_path_nobody_is_asked() -> None:
    assert ready("127.0.0.1", 9, HealthCheck())
