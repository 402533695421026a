"""The health checks: what counts as living and as ready, and that no app can hold up its own check or another's."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import pytest

from nodes.agent.health import HealthChecks, Monitor
from nodes.agent.protocol import HealthCheck
from nodes.agent.reconcile import Seen

SEEN = Seen("lease", 1, "workload", container_id="c" * 64, started_at="now", address="127.0.0.1", running=True)
FINE = b"HTTP/1.1 200 OK\r\n\r\n"


@contextmanager
def answering(text: bytes, *, times: int = 1, pause: float = 0) -> Iterator[int]:
    """A server that answers one request with the text, as many times as it is told; yields its port."""

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


@contextmanager
def checks() -> Iterator[HealthChecks]:
    running = HealthChecks()
    running.start()
    yield running
    running.stop()
    running.join(10)
    assert not running.is_alive()


@contextmanager
def served(*, pause: float = 0, texts: "list[bytes] | None" = None) -> Iterator[int]:
    """A server that answers every request after a pause, with the next text or the last one; yields its port."""
    left = texts if texts is not None else [FINE]

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.recv(4096)
            time.sleep(pause)
            connection.sendall(left.pop(0) if len(left) > 1 else left[0])

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


class Heard:
    """What a monitor tells, as it comes."""

    def __init__(self, port: int, check: HealthCheck, *, keeps: float = 0) -> None:
        """Args: keeps: seconds that taking what is told lasts, as on a slow disk."""
        self._found: "queue.Queue[tuple[bool, bool, float]]" = queue.Queue()
        self._keeps = keeps
        self.monitor = Monitor(SEEN, port, check, self._take)

    def _take(self, monitor: Monitor, well: bool, alive: bool) -> None:
        self._found.put((well, alive, time.monotonic()))
        time.sleep(self._keeps)

    def next(self) -> "tuple[bool, bool]":
        return self._found.get(timeout=20)[:2]

    def all(self) -> "list[tuple[bool, bool, float]]":
        return [self._found.get_nowait() for _ in range(self._found.qsize())]


def first(port: int, check: HealthCheck) -> "tuple[bool, bool]":
    """Return what the first check finds: whether the app is well, and whether it lives."""
    heard = Heard(port, check)
    with checks() as running:
        running.watch(heard.monitor)
        return heard.next()


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
        assert first(port, HealthCheck(kind="http", timeout_seconds=2)) == (well, well)


@pytest.mark.parametrize(
    ("answer", "pause"), [(b"HTTP/1.1 100 Continue\r\n\r\n", 0.001), (b"H", 0.2)], ids=["goes on", "drips"]
)
def test_an_app_cannot_hold_the_probe(answer: bytes, pause: float) -> None:
    with answering(answer, times=int(4 / pause), pause=pause) as port:
        began = time.monotonic()
        assert first(port, HealthCheck(kind="http", timeout_seconds=1)) == (False, False)
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("path", ["/ x", "/\r\nX: y", "/é"])
def test_a_path_is_nothing_but_a_path(path: str) -> None:
    with served() as port:
        assert first(port, HealthCheck(kind="http", path=path)) == (False, False)


def test_without_a_path_it_is_enough_that_the_port_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert first(port, HealthCheck()) == (True, True)
    assert first(port, HealthCheck()) == (False, False)


def test_a_container_without_an_address_is_not_asked_on_this_device_instead() -> None:
    with served() as port:
        heard = Heard(port, HealthCheck(kind="http"))
        heard.monitor.seen = replace(SEEN, address="")
        with checks() as running:
            running.watch(heard.monitor)
            assert heard.next() == (False, False)


@pytest.mark.parametrize(("answer", "is_ready"), [(FINE, True), (b"HTTP/1.1 503 \r\n\r\n", False)])
def test_what_lives_is_ready_when_its_ready_path_answers(answer: bytes, is_ready: bool) -> None:
    with served(texts=[FINE, answer]) as port:
        assert first(port, HealthCheck(kind="http", ready_path="/ready", timeout_seconds=2)) == (is_ready, True)


def test_an_app_that_hangs_delays_no_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging, served() as port, checks() as running:
        slow = Heard(hanging.getsockname()[1], HealthCheck(kind="http", timeout_seconds=60))
        quick = Heard(port, HealthCheck(kind="http", interval_seconds=1))
        for heard in (slow, quick):
            running.watch(heard.monitor)
        for _ in range(3):
            assert quick.next() == (True, True)
        assert not slow.all()


def test_a_slow_disk_makes_no_other_app_ill() -> None:
    """While what one check found is being kept, nobody listens to the others: that time is not theirs."""
    with ExitStack() as stack:
        ports = [stack.enter_context(served(pause=pause)) for pause in (0.1, 0.4)]
        running = stack.enter_context(checks())
        kept = Heard(ports[0], HealthCheck(kind="http", timeout_seconds=1), keeps=3)
        other = Heard(ports[1], HealthCheck(kind="http", timeout_seconds=1))
        for heard in (other, kept):
            running.watch(heard.monitor)
        assert other.next() == (True, True)
        assert kept.next() == (True, True)


def test_a_fault_in_taking_one_result_ends_no_watch(caplog: pytest.LogCaptureFixture) -> None:
    def take(monitor: Monitor, well: bool, alive: bool) -> None:
        raise RuntimeError("a fault of ours")

    with served() as port, checks() as running:
        running.watch(Monitor(SEEN, port, HealthCheck(kind="http", interval_seconds=1), take))
        heard = Heard(port, HealthCheck(kind="http", interval_seconds=1))
        running.watch(heard.monitor)
        assert [heard.next() for _ in range(2)] == [(True, True)] * 2
    assert "a fault of ours" in caplog.text


def test_one_failure_is_chance_and_the_second_is_told() -> None:
    bad = b"HTTP/1.1 500 \r\n\r\n"
    check = HealthCheck(kind="http", interval_seconds=1)
    with served(texts=[FINE, bad, FINE, bad]) as port, checks() as running:
        heard = Heard(port, check)
        running.watch(heard.monitor)
        assert [heard.next() for _ in range(3)] == [(True, True), (True, True), (False, False)]


def test_nobody_hears_of_what_is_stopped() -> None:
    with served() as port, checks() as running:
        heard = Heard(port, HealthCheck(kind="http", interval_seconds=1))
        running.watch(heard.monitor)
        heard.next()
        heard.monitor.stop()
        time.sleep(0.1)
        heard.all()
        time.sleep(2.2)
        assert not heard.all()


@pytest.mark.parametrize("interval", [1, 5, 7])
def test_those_that_are_well_are_asked_together_and_never_less_often(interval: int) -> None:
    monitors = [Monitor(SEEN, 1, HealthCheck(interval_seconds=interval), lambda *_: None) for _ in range(2)]
    for monitor in monitors:
        monitor.heard(well=True, alive=True)
        assert 0 < monitor.due - time.monotonic() <= interval
        assert monitor.due % interval == 0
