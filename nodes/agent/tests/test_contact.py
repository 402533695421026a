"""How a device notices that it can reach the portal again: at once after a cut of its own, without a crowd after the portal's."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interchain_site.testing.servers import free_port
from nodes.agent import contact, courier, directory, keys
from nodes.agent.config import Config, Home
from nodes.agent.contact import Contact
from nodes.agent.courier import Courier
from nodes.agent.directory import Directory
from nodes.agent.directory_store import Store
from nodes.agent.gossip import Answers
from nodes.agent.outbox import Outbox, Receipts
from nodes.agent.protocol import Desired, DesiredLease, Report
from nodes.agent.self_stop import Peer
from nodes.agent.server_api import Portal
from nodes.agent.small_http import SmallServer
from nodes.agent.tests.conftest import lease, workload


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Directory]:
    """A device's directory whose rounds the test takes by itself; `told` counts how often the portal was to be asked."""
    home = Home(tmp_path / "device").create()
    told: list[float] = []
    made = Directory(
        home,
        Config("d", "http://x", "ws://x", 1, directory_port=0),
        Contact(),
        desired=Desired,
        hold=lambda decision: None,
        news=lambda: None,
        returned=lambda: told.append(time.monotonic()),
    )
    made.told = told  # type: ignore[attr-defined]
    yield made
    made.store.close()


def rounds(device: Directory, count: int) -> int:
    """Let it go round so often; returns how often the portal was to be asked, from the beginning."""
    for _ in range(count):
        began = time.monotonic()
        device.gossip.round()
        device._listen(began)
    return len(device.told)  # type: ignore[attr-defined]


def peer(folder: Path, port: int) -> SmallServer:
    kept = Store(folder / "peer.sqlite3")
    server = SmallServer("127.0.0.1", port, Answers(kept, Contact(), device_id="p", suspect=lambda suspicion: None))
    server.start()
    return server


def test_a_peer_that_answers_after_none_did_ends_the_wait(device: Directory, tmp_path: Path) -> None:
    port = free_port()
    device.store.set_fact("peers", f"127.0.0.1:{port}")
    device._contact.failed()
    assert rounds(device, 2) == 0, "nobody answers: there is nothing to ask for yet"
    server = peer(tmp_path, port)
    assert rounds(device, 3) == 1, "once, not at each round"
    server.stop()


def test_a_portal_that_is_gone_for_all_is_asked_no_sooner(device: Directory, tmp_path: Path) -> None:
    port = free_port()
    server = peer(tmp_path, port)
    device.store.set_fact("peers", f"127.0.0.1:{port}")
    device._contact.failed()
    assert rounds(device, 4) == 0
    server.stop()


def directory_of(tmp_path: Path, app: DesiredLease, held: "list[frozenset[str]]", **more: Any) -> Directory:
    """Make the directory of a device that runs this app and may have to stop it after 20 s; `held` gets what it stops."""
    return Directory(
        Home(tmp_path / "device").create(),
        Config("d", "http://x", "ws://x", 1, directory_port=0),
        Contact(),
        desired=lambda: Desired((app,), self_stop_seconds=20),
        hold=lambda decision: held.append(decision.lease_ids),
        news=lambda: None,
        **more,
    )


@pytest.mark.parametrize("answers", [True, False])
def test_a_portal_that_peers_reach_is_asked_once_more_before_anything_stops(tmp_path: Path, answers: bool) -> None:
    """A portal that comes back is noticed by some devices a minute before others."""
    held: list[frozenset[str]] = []
    asked, returned = [], []
    app = lease(workload(), lease_id="app")

    def answer() -> bool:
        asked.append(1)
        return answers

    made = directory_of(tmp_path, app, held, returned=lambda: returned.append(1), portal_answers=answer)
    now = time.monotonic()
    made._contact.answered_at, made._contact._asked_at, made._contact._failed = now - 60, now - 50, True
    made.store.set_fact("peers", "192.0.2.1:1")
    made.gossip._known = {"192.0.2.1:1": Peer(now - 1, now - 2)}
    made.watch()
    assert asked == [1]
    assert (held, returned) == (([], [1]) if answers else ([frozenset({"app"})], []))
    made.watch()
    assert len(asked) == (1 if answers else 2), "its answer holds for a while"
    made.store.close()


def test_frozen_for_longer_than_its_time_it_hears_others_before_it_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[frozenset[str]] = []
    heard: list[bool] = []
    port, app = free_port(), lease(workload(), lease_id="app")
    server = peer(tmp_path, port)
    made = directory_of(tmp_path, app, held)
    made.store.set_fact("peers", f"127.0.0.1:{port}")
    monkeypatch.setattr(directory, "FROZEN_SECONDS", 0.1)

    class Freezes(threading.Event):
        pauses = 0

        def wait(self, timeout: "float | None" = None) -> bool:
            self.pauses += 1
            if self.pauses == 2:
                heard.extend(one.answered_at is not None for one in made.gossip.peers())
                self.set()
                return True
            time.sleep((timeout or 0) + 0.3)
            made._contact.answered_at -= 60
            made.gossip._known = {one: Peer(time.monotonic() - 60) for one in made.gossip._known}
            return False

    monkeypatch.setattr(made, "_pause", lambda learnt: 0.05)
    made._stopping = Freezes()
    made.run()
    assert (held, heard) == ([], [True])
    server.stop()


def test_who_knows_no_peer_asks_every_few_seconds(device: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "ALONE_SECONDS", 0.05)
    assert rounds(device, 2) == 0, "the portal answers"
    device._contact.failed()
    for _ in range(4):
        rounds(device, 1)
        time.sleep(0.06)
    assert 2 <= rounds(device, 0) <= 4


def test_a_question_without_answer_counts_from_when_it_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept connection through a dead network says nothing for a quarter of a minute."""
    monkeypatch.setattr(contact, "LATE_SECONDS", 0.2)
    known, returned = Contact(), []
    known.on_returned = lambda: returned.append(1)
    asked_at = time.monotonic()
    known.asked()
    assert known.failing_since is None
    time.sleep(0.25)
    assert known.failing_since == pytest.approx(asked_at, abs=0.05)
    known.answered()
    assert (known.failing_since, returned) == (None, [])
    known.asked()
    known.refused()  # it is there, and says no
    time.sleep(0.25)
    assert known.failing_since is None
    known.failed()
    known.answered()
    assert returned == [1]


def test_a_wish_to_look_that_came_during_a_vain_attempt_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "LONGEST_PAUSE_SECONDS", 60.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        portal = Portal(url, device_id="d", key=keys.create(tmp_path / "key"), seconds=0.5)
        made = Courier(
            portal,
            outbox=Outbox(tmp_path / "outbox", key=keys.create(tmp_path / "k"), device_id="d", now=portal.now),
            receipts=Receipts(tmp_path / "receipts"),
            report=lambda: Report(()),
            desired=lambda desired: None,
            revoked=lambda: None,
        )
        made._pause = 30.0  # as after a long cut
        made.start()
        first, _ = silent.accept()
        began = time.monotonic()
        made.look()
        again, _ = silent.accept()
        assert time.monotonic() - began < 10
        for connection in (first, again):
            connection.close()
        threading.Thread(target=made.stop, kwargs={"seconds": 5}).start()
        silent.settimeout(2)
        made.join(20)
