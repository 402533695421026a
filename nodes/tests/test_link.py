"""The device link on a real server: real WebSockets, real Redis, the whole ASGI application."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import uvicorn
from django.db import connections
from django.urls import reverse
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from interchain_site.core import redis
from interchain_site.core.logs import WithoutLinks
from interchain_site.testing.devices import make_workload
from interchain_site.testing.servers import free_port, wait_for_port
from nodes import hub, link
from nodes.agent.protocol import MAX_BODY_BYTES, Image
from nodes.body_limit import most_bytes
from nodes.conftest import eventually
from nodes.models import Device
from nodes.services import devices, leases, liveness, placement, wake

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(box, monkeypatch) -> Iterator[int]:
    """Serve the whole application; yields its port."""
    from interchain_site.asgi import application

    monkeypatch.setattr(hub, "HEARD_EVERY_SECONDS", 0.1)
    # The server's threads must not keep connections to a database that the test run drops at its end.
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
    port = free_port()
    config = uvicorn.Config(application, host="127.0.0.1", port=port, log_level="warning", ws="websockets-sansio")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    wait_for_port(port)
    yield port
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


@contextmanager
def dial(port: int, token: str) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{port}/link/", proxy=None, open_timeout=5) as socket:
        socket.send(token)
        yield socket


@contextmanager
def linked(port: int, box) -> Iterator[ClientConnection]:
    """Dial and wait until the portal holds the link."""
    redis.connection().delete(liveness.SEEN_KEY)
    with dial(port, box.jwt()) as socket:
        eventually(lambda: redis.connection().zscore(liveness.SEEN_KEY, box.id))
        time.sleep(0.3)
        yield socket


def closed_with(socket: ClientConnection) -> int | None:
    """Read until the portal ends the link; returns its code."""
    with suppress(ConnectionClosed):
        while True:
            socket.recv(5)
    return socket.close_code


def test_a_lease_wakes_its_device_at_once(site, box):
    with linked(site, box) as socket:
        began = time.perf_counter()
        lease = placement.open_lease(workload=make_workload(), by=None)
        assert json.loads(socket.recv(5)) == {"type": "look"}
        assert time.perf_counter() - began < 0.5
        leases.close_lease(lease_id=lease.pk, by=None)
        assert json.loads(socket.recv(5)) == {"type": "look"}


def test_others_are_not_woken(site, box):
    with linked(site, box) as socket:
        wake.wake(uuid.uuid4())
        with pytest.raises(TimeoutError):
            socket.recv(0.4)


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", ""])
def test_a_bad_token_ends_the_link(site, box, token):
    with dial(site, token) as socket:
        assert closed_with(socket) == link.CLOSE_UNAUTHENTICATED


def test_a_token_is_good_for_one_link(site, box):
    token = box.jwt()
    with dial(site, token) as first:
        with pytest.raises(TimeoutError):
            first.recv(0.5)  # let in, and nothing to say
        with dial(site, token) as second:
            assert closed_with(second) == link.CLOSE_UNAUTHENTICATED
    with dial(site, token) as second:
        assert closed_with(second) == link.CLOSE_UNAUTHENTICATED


def test_silence_ends_the_link(site, box, monkeypatch):
    monkeypatch.setattr(link, "FIRST_MESSAGE_SECONDS", 0.2)
    with connect(f"ws://127.0.0.1:{site}/link/", proxy=None) as socket:
        assert closed_with(socket) == link.CLOSE_UNAUTHENTICATED


def test_a_removed_device_is_hung_up_on_and_not_let_in_again(site, box, cast):
    with linked(site, box) as socket:
        devices.revoke_device(device=box.device, by=cast.owner)
        assert closed_with(socket) == link.CLOSE_REMOVED
    with dial(site, box.jwt()) as again:
        assert closed_with(again) == link.CLOSE_REMOVED


def test_an_open_link_keeps_the_device_heard_and_a_closed_one_does_not(site, box):
    with linked(site, box):
        first = redis.connection().zscore(liveness.SEEN_KEY, box.id)
        eventually(lambda: redis.connection().zscore(liveness.SEEN_KEY, box.id) > first)
    time.sleep(0.5)
    last = redis.connection().zscore(liveness.SEEN_KEY, box.id)
    time.sleep(0.5)
    assert redis.connection().zscore(liveness.SEEN_KEY, box.id) == last
    assert redis.connection().exists(liveness.LISTENING_KEY)


def test_a_link_brings_an_offline_device_back(site, box):
    Device.objects.update(state="offline")
    with linked(site, box):
        eventually(lambda: Device.objects.get().state == "online")


def test_after_redis_dropped_the_subscription_every_device_looks_again(site, box):
    with linked(site, box) as socket:
        redis.connection().client_kill_filter(_type="pubsub")
        assert json.loads(socket.recv(5)) == {"type": "look"}
        time.sleep(0.2)
        wake.wake(box.device.pk)
        assert json.loads(socket.recv(5)) == {"type": "look"}


def test_many_links_share_one_subscription(site, box):
    with linked(site, box), dial(site, box.jwt()), dial(site, box.jwt()):
        time.sleep(0.3)
        assert dict(redis.connection().pubsub_numsub(wake.CHANNEL)) == {wake.CHANNEL: 1}


@pytest.mark.parametrize("path", ["/api/node/v1/enrol", "/accounts/login/", "/stripe/webhook", "/no/such/page"])
def test_an_endless_body_is_cut_off_while_it_arrives(site, box, path):
    def endless() -> Iterator[bytes]:
        for _ in range(100 * MAX_BODY_BYTES // 65_536):
            yield b"x" * 65_536

    url = f"http://127.0.0.1:{site}{path}"
    try:
        answer = httpx.post(url, content=endless(), trust_env=False, timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        pass  # hung up on in the middle of sending, which is as good


def test_only_an_upload_may_be_as_large_as_an_archive(settings):
    settings.IMAGE_ARCHIVE_MAX_BYTES = 10**9
    for path in (reverse("release_new", args=["blog"]), reverse("api_releases", args=["blog"])):
        assert most_bytes(path) > 10**9
    for path in (reverse("apps"), reverse("node_enrol"), "/", reverse("release_new", args=["blog"]) + "x"):
        assert most_bytes(path) < 3 * 10**6


def test_the_rest_of_the_site_is_served_beside_the_link(site, box):
    answer = httpx.get(f"http://127.0.0.1:{site}/internal/tls-ask?domain=x", trust_env=False, timeout=30)
    assert answer.status_code == 404
    headers = {"Authorization": f"Bearer {box.jwt()}"}
    assert (
        httpx.get(
            f"http://127.0.0.1:{site}/api/node/v1/desired", headers=headers, trust_env=False, timeout=30
        ).status_code
        == 200
    )


def test_an_archive_is_streamed(site, box, settings):
    folder = Path(settings.MEDIA_ROOT) / "archives"
    folder.mkdir(parents=True)
    sha256 = "a" * 64
    (folder / sha256).write_bytes(b"0123456789abcdef" * 500_000)
    placement.open_lease(workload=make_workload(image=Image(archive_sha256=sha256)), by=None)
    headers = {"Authorization": f"Bearer {box.jwt()}"}
    answer = httpx.get(
        f"http://127.0.0.1:{site}/api/node/v1/archives/{sha256}", headers=headers, trust_env=False, timeout=30
    )
    assert (answer.status_code, len(answer.content)) == (200, 8_000_000)


@pytest.mark.parametrize(("reason", "lease_state"), [("sleep", "lost"), ("shutdown", "lost"), ("update", "running")])
def test_a_goodbye_counts_at_once_and_its_reason_says_for_what(site, box, reason, lease_state):
    lease = placement.open_lease(workload=make_workload(), by=None)
    box.runs(lease)
    with linked(site, box) as socket:
        socket.close(1001, reason)
        # Long before the missing pings would tell.
        eventually(lambda: Device.objects.filter(state="offline").exists(), 3)
    assert Device.objects.get().goodbye == reason
    # No beat of this process, and no sweep, takes it for present again.
    time.sleep(0.3)
    liveness.listening()
    redis.connection().set(liveness.SINCE_KEY, str(time.time() - 60))
    liveness.sweep()
    lease.refresh_from_db()
    assert (Device.objects.get().state, lease.state) == ("offline", lease_state)
    with linked(site, box):
        device = Device.objects.get()
        assert (device.state, device.goodbye) == ("online", "")


def test_a_link_that_breaks_is_no_goodbye(site, box):
    with linked(site, box) as socket:
        socket.close(1000, "sleep")
    with linked(site, box) as socket:
        socket.socket.close()
    time.sleep(0.3)
    assert Device.objects.get().goodbye == ""


def test_the_older_of_two_links_takes_nobody_offline(site, box):
    with linked(site, box) as old, dial(site, box.jwt()):
        time.sleep(0.3)
        old.close(1001, "update")
        time.sleep(0.3)
        assert Device.objects.get().state == "online"


def test_a_link_that_opens_and_closes_is_no_line_in_the_log(site, box, monkeypatch, caplog):
    lines: dict[bool, list[str]] = {}
    server_log = logging.getLogger("uvicorn.error")
    caplog.set_level(logging.INFO, server_log.name)
    for filtered in (True, False):
        handler = logging.Handler()
        lines[filtered] = []
        monkeypatch.setattr(handler, "emit", lambda record, into=lines[filtered]: into.append(record.getMessage()))
        if filtered:
            handler.addFilter(WithoutLinks())
        monkeypatch.setattr(server_log, "handlers", [*server_log.handlers, handler])
    with linked(site, box):
        pass
    eventually(lambda: "connection open" in lines[False])
    server_log.info("Application startup complete.")
    assert lines[True] == ["Application startup complete."]
