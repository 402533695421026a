"""The agent's side of the link: it heeds nobody who does not prove to be the portal, and stays away as it is asked to."""

from __future__ import annotations

import dataclasses
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from nodes.agent import backoff, config, keys, link, link_pauses
from nodes.agent.backoff import Backoff
from nodes.agent.config import Config, Home
from nodes.agent.link import Link
from nodes.agent.link_trust import LinkTrust
from nodes.agent.protocol import Goodbye, LinkKeyChange, LinkProof, to_json
from nodes.agent.server_api import Portal
from nodes.agent.tests.portal import FakePortal

QUIET_SECONDS = 1.0  # in which what must not happen would have happened


class Linked:
    """A real link of a device whose looks are counted."""

    def __init__(self, portal: FakePortal, folder: Path, *, known: str) -> None:
        self.home = Home(folder).create()
        key = keys.create(self.home.key)
        portal.public_x = key.public_x
        settings = Config(portal.device_id, portal.url, portal.link_url, 1, link_key=known)
        config.save(self.home, settings)
        self.looks, self._portal = 0, portal
        api = Portal(portal.url, device_id=portal.device_id, key=key)
        self.link = Link(portal.link_url, token=api.token, trust=LinkTrust(self.home, settings), look=self._look)

    def _look(self) -> None:
        self.looks += 1
        with self._portal.changed:
            self._portal.changed.notify_all()

    @property
    def known(self) -> str:
        return config.load(self.home).link_key


@contextmanager
def linked(portal: FakePortal, folder: Path, *, known: "str | None" = None) -> Iterator[Linked]:
    device = Linked(portal, folder, known=portal.link_signer.public_x if known is None else known)
    device.link.start()
    try:
        yield device
    finally:
        device.link.stop(Goodbye.STOP)
        device.link.join(10)
        assert not device.link.is_alive()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_pauses, "FIRST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(link_pauses, "LONGEST_PAUSE_SECONDS", 0.2)


def says(portal: FakePortal, *messages: Any) -> "Callable[[ServerConnection, dict[str, str]], bool]":
    """Make a portal answer each link with these, a wake-up last; what is callable is given the claims."""

    def answer(socket: ServerConnection, claims: "dict[str, str]") -> bool:
        with suppress(ConnectionClosed):
            for message in (*messages, {"type": "look"}):
                said = message(claims) if callable(message) else message
                socket.send(json.dumps(said) if isinstance(said, dict) else to_json(said).decode())
        return True

    return answer


def test_a_portal_that_proves_itself_is_heeded_and_a_goodbye_says_why(portal: FakePortal, tmp_path: Path) -> None:
    with linked(portal, tmp_path) as device:
        portal.wait(lambda: device.looks == 1 and portal.linked, 10, "the link")
        portal.look()
        portal.wait(lambda: device.looks == 2, 40, "a wake-up")
        assert portal.claims["portal_key"] == portal.link_signer.public_x
    portal.wait(lambda: (1001, "stop") in portal.goodbyes, 10, "the goodbye")


def test_who_proves_nothing_is_not_heeded(portal: FakePortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "PROOF_SECONDS", 1.0)
    portal.answers_links = says(portal)  # a wake-up, and no proof before it
    with linked(portal, tmp_path) as device:
        portal.wait(lambda: len(portal.links_opened) >= 3, 20, "attempts")
        portal.answers_links = lambda socket, claims: True  # not a word
        opened = len(portal.links_opened)
        portal.wait(lambda: len(portal.links_opened) >= opened + 2, 20, "silence is not waited for")
        assert device.looks == 0
        portal.answers_links = portal.prove
        portal.wait(lambda: device.looks, 20, "the portal is back")


def bad_proofs() -> "dict[str, Callable[[FakePortal, dict[str, str]], LinkProof]]":
    thief = keys.fresh()

    def stolen(portal: FakePortal, claims: "dict[str, str]") -> LinkProof:
        real, portal.link_signer = portal.link_signer, thief
        try:
            return portal.proof(claims)
        finally:
            portal.link_signer = real

    def self_appointed(portal: FakePortal, claims: "dict[str, str]") -> LinkProof:
        change = LinkKeyChange(portal.link_signer.public_x, thief.public_x, "")
        return dataclasses.replace(stolen(portal, claims), statements=(thief.sign(to_json(change)),))

    return {
        "another key": stolen,
        "a change of key that the old one did not sign": self_appointed,
        "another device": lambda portal, claims: portal.proof(claims, device_id="x"),
        "another portal": lambda portal, claims: portal.proof(claims, portal_url="https://else.example"),
        "another nonce": lambda portal, claims: portal.proof(claims, nonce="x"),
        "another kind of statement": lambda portal, claims: portal.proof(claims, kind="link-key"),
        "no signature": lambda portal, claims: dataclasses.replace(portal.proof(claims), jws=""),
    }


@pytest.mark.parametrize("name", bad_proofs())
def test_a_wrong_proof_is_refused(portal: FakePortal, tmp_path: Path, name: str) -> None:
    portal.answers_links = says(portal, lambda claims: bad_proofs()[name](portal, claims))
    with linked(portal, tmp_path) as device:
        portal.wait(lambda: len(portal.links_opened) >= 2, 20, "attempts")
        assert device.looks == 0
    assert device.known == portal.link_signer.public_x


def test_a_proof_that_was_good_once_is_refused(portal: FakePortal, tmp_path: Path) -> None:
    kept: "list[LinkProof]" = []

    def replay(claims: "dict[str, str]") -> LinkProof:
        kept.append(portal.proof(claims))
        return kept[0]

    portal.answers_links = says(portal, replay)
    with linked(portal, tmp_path) as device:
        portal.wait(lambda: device.looks == 2 and portal.linked, 40, "the first time it is good")
        portal.closes_with = (1011, "")
        portal.drop()
        portal.wait(lambda: len(kept) >= 3, 40, "the same proof again")
        time.sleep(QUIET_SECONDS)
        assert device.looks == 2


def test_the_key_changes_by_the_word_of_the_one_before(portal: FakePortal, tmp_path: Path) -> None:
    first = portal.link_signer
    for _ in range(2):
        old, portal.link_signer = portal.link_signer, keys.fresh()
        said = LinkKeyChange(old.public_x, portal.link_signer.public_x, "")
        portal.statements += (old.sign(to_json(said)),)
    with linked(portal, tmp_path, known=first.public_x) as device:
        portal.wait(lambda: device.looks, 10, "the link")
        assert device.known == portal.link_signer.public_x
        # Whoever has the first key now is nobody.
        portal.link_signer, portal.statements = first, ()
        portal.drop()
        opened = len(portal.links_opened)
        portal.wait(lambda: len(portal.links_opened) >= opened + 2, 20, "attempts")
        assert device.looks == 1


def test_a_device_from_before_keeps_the_first_key_it_is_shown(portal: FakePortal, tmp_path: Path) -> None:
    with linked(portal, tmp_path, known="") as device:
        portal.wait(lambda: device.known == portal.link_signer.public_x, 10, "the key")
        portal.link_signer = keys.fresh()
        portal.drop()
        opened, looks = len(portal.links_opened), device.looks
        portal.wait(lambda: len(portal.links_opened) >= opened + 2, 20, "attempts")
        assert device.looks == looks


def test_an_old_portal_without_proofs_wakes_a_device_that_knows_none(portal: FakePortal, tmp_path: Path) -> None:
    portal.answers_links = says(portal)
    with linked(portal, tmp_path, known="") as device:
        portal.wait(lambda: device.looks >= 2, 10, "a wake-up")


def test_a_device_stays_away_as_long_as_the_close_says(portal: FakePortal, tmp_path: Path) -> None:
    portal.closes_with = (1013, "retry-after=2; Too many devices come at once.")
    with linked(portal, tmp_path):
        portal.wait(lambda: len(portal.links_opened) >= 3, 30, "attempts")
    pauses = [after - before for before, after in zip(portal.links_opened, portal.links_opened[1:], strict=False)]
    assert min(pauses) >= 2.0


def test_asked_to_stay_away_it_still_says_goodbye_at_once(portal: FakePortal, tmp_path: Path) -> None:
    portal.closes_with = (4409, "retry-after=3000; Another agent uses this device's key.")
    with linked(portal, tmp_path) as device:
        portal.wait(lambda: portal.links_opened, 10, "the link")
        time.sleep(0.5)
        began = time.monotonic()
        device.link.stop(Goodbye.STOP)
        device.link.join(10)
        assert time.monotonic() - began < 5
    assert len(portal.links_opened) == 1


def test_courier_and_downloads_stay_away_as_retry_after_says(portal: FakePortal, tmp_path: Path) -> None:
    from nodes.agent.courier import Courier
    from nodes.agent.outbox import Outbox, Receipts
    from nodes.agent.protocol import Report

    key = keys.create(tmp_path / "device.key")
    portal.public_x, portal.fail_with, portal.retry_after = key.public_x, 503, "3"
    courier = Courier(
        Portal(portal.url, device_id=portal.device_id, key=key),
        outbox=Outbox(tmp_path / "outbox", key=key, device_id=portal.device_id),
        receipts=Receipts(tmp_path / "receipts"),
        report=Report,
        desired=lambda desired: None,
        revoked=lambda: None,
    )
    courier.start()
    portal.wait(lambda: portal.asked, 10, "the first request")
    for _ in range(15):  # not even a link that comes up again brings it back sooner
        courier.look()
        time.sleep(0.1)
    portal.wait(lambda: len(portal.asked) >= 2, 20, "the second request")
    portal.fail_with = None
    courier.stop(seconds=10)
    assert portal.asked[1][0] - portal.asked[0][0] >= 3.0


def test_what_the_portal_may_ask_is_bounded_and_only_lengthened() -> None:
    assert [backoff.asked(text) for text in (None, "", "soon", "-1", "12", "retry-after=7; words", "99999999")] == [
        0.0, 0.0, 0.0, 0.0, 12.0, 7.0, backoff.MOST_ASKED_SECONDS,
    ]  # fmt: skip
    waits = [backoff.obey(100) for _ in range(500)]
    assert (min(waits) >= 100, max(waits) <= 150, statistics.stdev(waits) > 5) == (True, True, True)


def test_pauses_grow_are_spread_over_their_whole_length_and_begin_anew() -> None:
    many = [Backoff(first_seconds=1, most_seconds=60) for _ in range(2000)]
    for bound in (1, 2, 4, 8, 16, 32, 60, 60):
        pauses = [each.next() for each in many]
        assert max(pauses) <= bound
        # A tenth of a herd in each tenth of the time, give or take.
        for tenth in range(10):
            inside = sum(bound * tenth / 10 <= pause < bound * (tenth + 1) / 10 for pause in pauses)
            assert 120 < inside < 280
    many[0].worked()
    assert many[0].next() <= 1


def test_reports_that_only_say_the_same_are_sent_once_in_four(portal: FakePortal, tmp_path: Path) -> None:
    from nodes.agent.courier import Courier
    from nodes.agent.outbox import Outbox, Receipts
    from nodes.agent.protocol import Desired, Mode, Report

    key = keys.create(tmp_path / "device.key")
    portal.public_x, portal.desired = key.public_x, Desired(report_interval_seconds=1, poll_interval_seconds=60)
    loads = iter(range(10_000))
    said = {"mode": Mode.OPEN}
    courier = Courier(
        Portal(portal.url, device_id=portal.device_id, key=key),
        outbox=Outbox(tmp_path / "outbox", key=key, device_id=portal.device_id),
        receipts=Receipts(tmp_path / "receipts"),
        report=lambda: Report(load={"cpu_percent": next(loads)}, mode=said["mode"]),
        desired=lambda desired: None,
        revoked=lambda: None,
    )
    courier.start()
    portal.wait(lambda: len(portal.reports) >= 3, 30, "three reports")
    times = [at for at, _ in portal.reports]
    assert min(times[1] - times[0], times[2] - times[1]) > 2.5
    said["mode"], told = Mode.PAUSED, len(portal.reports)
    courier.changed()
    portal.wait(lambda: portal.reports[-1][1].mode is Mode.PAUSED, 2, "news, at once")
    assert len(portal.reports) == told + 1
    courier.stop(seconds=10)
    assert not any(thread.name == "courier" for thread in threading.enumerate())
