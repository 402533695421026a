"""The local port while an endpoint does not answer: who is told, and where callers go."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from interchain_connect import proxy, trust
from interchain_connect.proxy import Proxy
from interchain_connect.resolve import Resolver
from interchain_connect.trust import Known

from nodes.agent import keys, records
from nodes.agent.contact import Contact
from nodes.agent.directory_store import Store
from nodes.agent.gossip import Answers
from nodes.agent.records import Record
from nodes.agent.small_http import SmallServer


@pytest.fixture(autouse=True)
def _real_redis() -> None:
    """The client knows no Redis; this replaces the site's fixture of the same name."""


@contextmanager
def listening(*, full: bool = False) -> Iterator[str]:
    """Listen, or be where nothing answers at all: a queue of connections that is full drops what else comes, without a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        queued = [socket.socket() for _ in range(4 if full else 0)]
        try:
            for one in queued:
                one.setblocking(False)
                one.connect_ex(address)
            if full:
                time.sleep(0.2)
            yield f"127.0.0.1:{address[1]}"
        finally:
            for one in queued:
                one.close()


def test_a_silent_endpoint_is_reported_and_left_for_a_newer_one_while_it_is_still_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "CONNECT_SECONDS", 20.0)
    key = keys.create(tmp_path / "key")
    kept, heard = Store(tmp_path / "node.sqlite3", key=key.public_x), []
    server = SmallServer("127.0.0.1", 0, Answers(kept, Contact(), device_id="d", suspect=heard.append))
    server.start()

    def say(sequence: int, endpoint: str) -> None:
        now = int(time.time())
        kept.put(
            records.sign(
                Record("blog", "w", sequence, (endpoint,), sequence, now, now + 600, (sequence,), (0,)),
                key,
            )
        )

    async def reach(silent: str, other: str) -> tuple[float, float, str]:
        """Return when the silent endpoint was reported, when a connection stood, and to where."""
        resolver = Resolver(
            Known({"format": trust.FORMAT, "key": key.public_x, "seeds": [f"127.0.0.1:{server.port}"]}, None), "blog"
        )
        say(1, silent)
        await resolver.refresh()
        began = time.monotonic()
        reaching = asyncio.ensure_future(Proxy(resolver)._reach())
        while not heard:
            await asyncio.sleep(0.02)
        reported = time.monotonic() - began
        say(2, other)  # the portal elected another device
        found = await reaching
        assert found is not None
        where = found[1].get_extra_info("peername")[1]
        found[1].close()
        return reported, time.monotonic() - began, f"127.0.0.1:{where}"

    try:
        with listening(full=True) as silent, listening() as other:
            reported, reached, where = asyncio.run(reach(silent, other))
    finally:
        server.stop()
        kept.close()
    assert where == other
    assert reported < proxy.CONNECT_SECONDS, "before it is given up"
    assert reached < proxy.CONNECT_SECONDS, "without waiting for the silent one to be given up"
    assert reached >= proxy.HESITATES_SECONDS
    assert [said.endpoint for said in heard] == [silent]
