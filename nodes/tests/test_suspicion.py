"""A device somebody could not reach is asked over its link; only its own silence moves anything."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager, suppress

import pytest
from websockets.exceptions import ConnectionClosed

from interchain_site.core import redis
from interchain_site.testing.devices import make_workload
from nodes.conftest import eventually
from nodes.models import Device
from nodes.services import liveness, placement, succession, suspicion, tunnels
from nodes.tasks import suspect_endpoint
from nodes.tests.test_link import dial, linked, site

__all__ = ["site"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def served(site, box):
    lease = placement.open_lease(workload=make_workload(), by=None)
    box.runs(lease)
    redis.connection().set(liveness.SINCE_KEY, str(time.time() - 60))
    eventually(lambda: redis.connection().exists(liveness.LISTENING_KEY))
    return lease


@contextmanager
def answering(socket):
    """Answer the portal's pings as an agent does, until the block ends."""

    def answer() -> None:
        with suppress(ConnectionClosed):
            for text in socket:
                message = json.loads(text)
                if message["type"] == "ping":
                    socket.send(json.dumps({"type": "pong", "id": message["id"]}))

    thread = threading.Thread(target=answer)
    thread.start()
    yield
    socket.close(1000)
    thread.join(10)


def report(lease, endpoint="127.0.0.1:40000", source="gateway"):
    suspect_endpoint(str(lease.workload_id), endpoint, source)
    lease.refresh_from_db()
    return lease.state


def test_a_report_about_a_device_that_answers_moves_nothing(site, box, served):
    with linked(site, box) as socket, answering(socket):
        assert report(served, source="client") == "running"
    assert Device.objects.get().state == "online"


def test_a_device_that_does_not_answer_is_lost_within_two_seconds(site, box, served):
    with linked(site, box):  # the link is up, and nobody reads it: frozen, or cut off without a word
        began = time.monotonic()
        assert report(served) == "lost"
        assert time.monotonic() - began < 5
    assert Device.objects.get().state == "offline"


def test_its_open_link_brings_nobody_back_before_it_says_something(site, box, served):
    with linked(site, box) as socket:
        assert report(served) == "lost"
        time.sleep(0.5)  # the portal notes ten times a second who is linked
        liveness.sweep()
        assert Device.objects.get().state == "offline"
        socket.send("late, and there")

        def is_back() -> bool:
            liveness.sweep()
            return Device.objects.get().state == "online"

        eventually(is_back)


def test_a_device_that_lost_its_network_is_not_taken_for_one_behind_a_router(site, box, served, monkeypatch):
    monkeypatch.setattr(tunnels, "PROBE_SECONDS", 0.5)
    Device.objects.update(can_tunnel=True)
    time.sleep(0.6)
    tunnels.probe()
    assert not Device.objects.get().tunnelled
    with linked(site, box) as socket, answering(socket):
        tunnels.probe()
    assert Device.objects.get().tunnelled


def test_an_endpoint_that_serves_nothing_of_the_workload_is_nobodys(site, box, served):
    assert report(served, endpoint="127.0.0.1:1") == "running"


def test_one_device_is_asked_once_a_second_whoever_reports(site, box, served, monkeypatch):
    asked = []
    monkeypatch.setattr(suspicion.pings, "answers", lambda device_id: asked.append(device_id) or True)
    for _ in range(50):
        report(served, source="client")
    assert 1 <= len(asked) <= 3


def test_nothing_is_concluded_while_the_portal_was_not_listening(site, box, served):
    redis.connection().set(liveness.SINCE_KEY, str(time.time() - 2))
    assert report(served) == "running"


def test_without_redis_nothing_is_concluded(site, box, served, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert report(served) == "running"


@pytest.mark.parametrize("text", ["", "x", "[]", "1", '{"type":"pong"}', '{"type":"pong","id":"../x"}', "[" * 10_000])
def test_what_is_no_answer_is_passed_over(site, box, text):
    with linked(site, box) as socket, dial(site, box.jwt()):
        socket.send(text)
        time.sleep(0.2)
        socket.send(text)


def test_the_succession_is_the_newest_wanted_lease_with_an_address(site, box, served):
    (lease,) = succession.serving(served.workload_id)
    assert succession.endpoint_of(lease) == "127.0.0.1:40000"
    placement.replace_workload(lease_id=lease.pk, workload=lease.workload, by=None)
    assert succession.serving(served.workload_id) == []
