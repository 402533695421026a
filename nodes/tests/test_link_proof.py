"""The portal proves itself over the link, asks devices to stay away when too many come, and lets the newer of two agents in."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from nodes import hub, link
from nodes.agent import jws, keys
from nodes.agent.protocol import LinkKeyChange, LinkProof, PortalProof, from_json
from nodes.conftest import eventually
from nodes.errors import Conflict
from nodes.models import Device, LinkKey
from nodes.services import link_keys, wake
from nodes.tests.test_link import closed_with, dial
from nodes.tests.test_link import site as site  # the fixture

pytestmark = pytest.mark.django_db(transaction=True)


def token(box, **claims: str) -> str:
    return str(box.jwt(**claims))


def proof_of(socket: ClientConnection) -> LinkProof:
    return from_json(LinkProof, str(socket.recv(10)))


def test_a_device_that_asks_gets_a_proof_for_itself_and_its_nonce_alone(site, box, settings):
    with dial(site, token(box, nonce="n" * 32)) as socket:
        proof = proof_of(socket)
        said = from_json(PortalProof, jws.verified(proof.jws, link_keys.in_force().public_key))
        assert said == PortalProof(box.id, settings.PORTAL_URL, "n" * 32)
        assert (proof.key, proof.statements) == (link_keys.in_force().public_key, ())
        time.sleep(0.3)
        wake.wake(box.device.pk)
        assert json.loads(socket.recv(5)) == {"type": "look"}


def test_an_agent_from_before_gets_none_and_is_woken_all_the_same(site, box):
    with dial(site, token(box)) as socket:
        time.sleep(0.5)
        wake.wake(box.device.pk)
        assert json.loads(socket.recv(5)) == {"type": "look"}


@pytest.mark.parametrize("nonce", ["n" * 101, 7, ["n"], None])
def test_what_is_no_nonce_is_not_signed(site, box, nonce):
    with dial(site, box.jwt(nonce=nonce)) as socket, suppress(TimeoutError):
        while True:
            assert json.loads(socket.recv(0.5)) == {"type": "look"}


def test_a_device_is_led_from_the_key_it_knows_to_the_one_in_force(site, box):
    first = link_keys.in_force().public_key
    call_command("link_key", "change")
    second = link_keys.in_force().public_key
    call_command("link_key", "change")
    with dial(site, token(box, nonce="n" * 32, portal_key=first)) as socket:
        proof, key = proof_of(socket), first
        for statement in proof.statements:
            change = from_json(LinkKeyChange, jws.verified(statement, key))
            assert (change.kind, change.old_key) == ("link-key", key)
            key = change.new_key
        assert key == proof.key == link_keys.in_force().public_key
        jws.verified(proof.jws, key)
    with dial(site, token(box, nonce="n" * 32, portal_key=second)) as socket:
        assert len(proof_of(socket).statements) == 1
    with dial(site, token(box, nonce="n" * 32, portal_key="a stranger's")) as socket:
        assert proof_of(socket).statements == ()


def test_of_a_key_that_was_changed_nothing_private_is_left():
    old = link_keys.in_force()
    assert "PRIVATE" not in old.private_key_encrypted
    link_keys.change(by=None)
    assert [bool(key.private_key_encrypted) for key in LinkKey.objects.all()] == [False, True]


def test_nobody_makes_a_second_chain():
    old = link_keys.in_force()
    link_keys._make(keys.fresh(), follows=old.public_key, statement="said by another process at this moment")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link_keys, "in_force", lambda: old)
        with pytest.raises(Conflict):
            link_keys.change(by=None)
    assert LinkKey.objects.count() == 2


def test_proving_costs_one_query(box):
    link_keys.proof(device_id=box.device.pk, nonce="n", known="")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        link_keys.proof(device_id=box.device.pk, nonce="n", known=link_keys.in_force().public_key)
    assert len(queries) == 2  # one of them is this test's own


def test_too_many_at_once_are_asked_to_come_back_later_each_at_its_own_time(site, box, monkeypatch):
    monkeypatch.setattr(link, "MOST_ENTERING", 0)
    asked = set()
    for _ in range(5):
        with dial(site, token(box, nonce="n" * 32)) as socket:
            assert closed_with(socket) == link.CLOSE_TRY_LATER
            asked.add(int(str(socket.close_reason).removeprefix("retry-after=").split(";")[0]))
    assert len(asked) > 1
    assert all(1 <= seconds <= link.AWAY_SECONDS for seconds in asked)


def test_a_portal_whose_redis_is_away_asks_for_patience_on_both_ways(site, box, settings):
    import httpx

    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    with dial(site, token(box, nonce="n" * 32)) as socket:
        assert closed_with(socket) == link.CLOSE_TRY_LATER
        assert str(socket.close_reason).startswith("retry-after=")
    headers = {"Authorization": f"Bearer {token(box)}"}
    url = f"http://127.0.0.1:{site}/api/node/v1/desired"
    answer = httpx.get(url, headers=headers, trust_env=False, timeout=30)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0


# --- two agents with one key ------------------------------------------------------------------------------------------


@contextmanager
def running(port: int, box, run: str, *, answers: bool = True) -> Iterator[list[dict[str, str]]]:
    """Hold a link as one run of an agent does; yields what it was told, the close last."""
    heard: list[dict[str, str]] = []
    with dial(port, token(box, nonce="n" * 32, agent=run)) as socket:
        proof_of(socket)

        def listen() -> None:
            for text in socket:
                message = json.loads(text)
                heard.append(message)
                if message["type"] == "ping" and answers:
                    socket.send(json.dumps({"type": "pong", "id": message["id"]}))

        def until_closed() -> None:
            try:
                listen()
            except Exception as error:
                heard.append(
                    {"type": f"closed {socket.close_code}", "reason": str(socket.close_reason), "by": str(error)}
                )

        thread = threading.Thread(target=until_closed)
        thread.start()
        time.sleep(0.3)
        try:
            yield heard
        finally:
            socket.close()
            thread.join(10)


def kinds(heard: list[dict[str, str]]) -> list[str]:
    return [message["type"] for message in heard]


def test_the_newer_of_two_agents_takes_the_link_both_are_told_and_the_owner_is_warned(site, box, cast, client):
    client.force_login(cast.owner)
    page = f"/devices/{box.id}/"
    assert "Two agents use" not in client.get(page).content.decode()
    with running(site, box, str(uuid.uuid4())) as older, running(site, box, str(uuid.uuid4())) as newer:
        eventually(lambda: f"closed {hub.CLOSE_REPLACED}" in kinds(older))
        assert older[-1]["reason"].startswith(f"retry-after={hub.REPLACED_AWAY_SECONDS};")
        eventually(lambda: "twin" in kinds(newer))
        newer.clear()
        wake.wake(box.device.pk)
        eventually(lambda: kinds(newer) == ["look"])
    assert Device.objects.get().twin_seen_at is not None
    assert "Two agents use this device" in client.get(page).content.decode()
    assert "Two agents use this device" in client.get(f"{page}status/").content.decode()


def test_a_link_that_nobody_answers_is_no_second_running(site, box, monkeypatch):
    monkeypatch.setattr(hub, "TWIN_ANSWER_SECONDS", 0.5)
    with (
        running(site, box, str(uuid.uuid4()), answers=False) as older,  # its computer lost its power
        running(site, box, str(uuid.uuid4())) as newer,
    ):
        eventually(lambda: f"closed {hub.CLOSE_REPLACED}" in kinds(older))
        assert "twin" not in kinds(newer)
    assert Device.objects.get().twin_seen_at is None


def test_an_agent_that_comes_back_over_another_network_is_itself(site, box):
    run = str(uuid.uuid4())
    with running(site, box, run) as older, running(site, box, run) as newer:
        time.sleep(1)
        assert (kinds(older), kinds(newer)) == ([], [])


def test_two_that_come_at_once_do_not_send_each_other_away(site, box):
    runs = [str(uuid.uuid4()) for _ in range(2)]
    held: list[list[dict[str, str]]] = []
    over = threading.Event()
    barrier = threading.Barrier(2)

    def come(run: str) -> None:
        barrier.wait()
        while not over.is_set():
            # SQLite's database in memory does not wait for another thread that writes: then this one comes again.
            with suppress(ConnectionClosed), running(site, box, run) as heard:
                held.append(heard)
                over.wait(60)

    threads = [threading.Thread(target=come, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: any(f"closed {hub.CLOSE_REPLACED}" in kinds(heard) for heard in held), 30)
        time.sleep(1)
        assert sorted(f"closed {hub.CLOSE_REPLACED}" in kinds(heard) for heard in held) == [False, True]
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
