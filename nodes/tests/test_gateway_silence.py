"""An upstream that falls silent is asked for a connection at once, and told of if it takes none. Real sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nodes.conftest import eventually
from nodes.gateway import silence
from nodes.gateway.apps import TRY_SECONDS
from nodes.gateway.log_lines import Visit
from nodes.gateway.silence import BUSY_ANSWERS, Silence


@contextmanager
def upstream(*, dead: bool) -> Iterator[str]:
    """Where connections are taken; or, dead, where nothing answers at all: a full queue drops what else comes, without a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        queued = [socket.socket() for _ in range(4 if dead else 0)]
        try:
            for one in queued:
                one.setblocking(False)
                one.connect_ex(server.getsockname())
            time.sleep(0.2 if dead else 0.0)
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            for one in queued:
                one.close()


@pytest.mark.parametrize(
    ("dead", "answers", "seconds_apart", "status", "told"),
    [
        (True, BUSY_ANSWERS, 0.05, 200, True),
        (False, BUSY_ANSWERS, 0.05, 200, False),  # it merely has nothing to do
        (True, BUSY_ANSWERS - 1, 0.05, 200, False),  # not asked all the time: its silence is nothing new
        (True, 2 * BUSY_ANSWERS, 0.6, 200, False),
        (True, BUSY_ANSWERS, 0.05, 502, False),  # these are told of already
    ],
)
def test_a_silence_of_one_that_was_busy(dead, answers, seconds_apart, status, told):
    heard: list[tuple[str, str]] = []
    watched = Silence(lambda *what: heard.append(what))
    with upstream(dead=dead) as endpoint:
        began = time.time()
        ends = [began - seconds_apart * number for number in reversed(range(answers))]
        visits = [Visit(at, "w", "192.0.2.1", endpoint, endpoint, status, 1, "") for at in ends]
        watched.take([*visits, Visit(began, "w", "192.0.2.1", "/run/page.sock", "", 200, 1, "")])
        watched.look()
        assert heard == []
        if told:
            eventually(lambda: watched.look() or heard)
            assert time.time() - began < TRY_SECONDS, "before the first request is given up"
        else:
            time.sleep(silence.SILENT_SECONDS + 0.1)
            watched.look()
            time.sleep(silence.DIAL_SECONDS + 0.3)
        watched.look()
        assert heard == ([("w", endpoint)] if told else [])
    watched.close()
