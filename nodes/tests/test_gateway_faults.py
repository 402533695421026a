"""What clients of the gateway see while upstreams, gateways and Redis fail: real Caddy, real processes, real load.

Longer than 300 lines because all of it shares one load and one way to publish a route.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from interchain_site.core import redis
from interchain_site.testing.servers import free_port, running
from nodes.conftest import eventually, in_thread, serving
from nodes.gateway.access_log import Tail
from nodes.gateway.pace import Pace
from nodes.gateway.syncer import Syncer
from nodes.services import routes
from nodes.tests.gateway_load import app, load, publish, shelve


@pytest.fixture(params=["spare slot", "shelf"])
def settle(request, syncer):
    """What a test calls when its names are served: for the second time they are part of the configuration before it goes on."""
    return (lambda: shelve(syncer)) if request.param == "shelf" else (lambda: None)


def suspects():
    """Return what was told to the worker's queue."""
    return [json.loads(text)["headers"]["kwargsrepr"] for text in redis.connection().lrange("celery", 0, -1)]


def test_no_get_fails_while_the_first_of_two_is_killed_mid_load(gateway, settle):
    first, second = free_port(), free_port()
    stop = threading.Event()
    with app(first, "first") as process, app(second, "second"), in_thread(Tail(stop).run, stop):
        publish("blog", f"127.0.0.1:{first}", f"127.0.0.1:{second}")
        eventually(lambda: gateway.get("blog").text == "first")
        settle()
        with load(gateway, "blog", **{"X-Take": "0.02"}) as failed:
            process.kill()
            eventually(lambda: gateway.get("blog").text == "second")
            time.sleep(0.5)
        assert failed == []
        eventually(lambda: any(f"127.0.0.1:{first}" in told for told in suspects()))
        assert not any(f"127.0.0.1:{second}" in told for told in suspects())


def test_requests_that_wait_for_a_dead_upstream_are_served_by_the_next_routes(gateway, settle):
    dead, alive = free_port(), free_port()
    with app(alive, "alive"):
        publish("blog", f"127.0.0.1:{dead}")
        eventually(lambda: gateway.status("blog") == 502)
        settle()
        for _ in range(3):
            answers = []
            asking = threading.Thread(target=lambda found=answers: found.append(gateway.get("blog")))
            asking.start()
            time.sleep(0.5)
            publish("blog", f"127.0.0.1:{alive}")
            asking.join()
            assert (answers[0].status_code, answers[0].text) == (200, "alive")
            publish("blog", f"127.0.0.1:{dead}")
            eventually(lambda: gateway.status("blog") == 502)


def test_what_may_not_be_sent_twice_is_sent_once(gateway, settle):
    """A POST whose app dies while it works on it fails: whether it was done nobody knows. One not yet sent goes to the next."""
    first, second = free_port(), free_port()
    with app(first, "first") as process, app(second, "second"):
        publish("blog", f"127.0.0.1:{first}", f"127.0.0.1:{second}")
        eventually(lambda: gateway.get("blog").text == "first")
        settle()
        answers = []

        def post():
            host = {"Host": "blog.apps.localhost", "X-Take": "5"}
            url = f"http://127.0.0.1:{gateway.port}/"
            answers.append(httpx.post(url, content=b"pay", headers=host, trust_env=False, timeout=20))

        posting = threading.Thread(target=post)
        posting.start()
        time.sleep(0.5)
        process.kill()
        posting.join()
        assert answers[0].status_code == 502
        host = {"Host": "blog.apps.localhost"}
        after = httpx.post(
            f"http://127.0.0.1:{gateway.port}/", content=b"pay", headers=host, trust_env=False, timeout=20
        )
        assert after.text == "second"


def test_new_routes_fail_no_request(gateway, settle):
    """Where an app is served changes without a new configuration, which would cut clients off."""
    first, second = free_port(), free_port()
    with app(first, "first"), app(second, "second"):
        publish("blog", f"127.0.0.1:{first}")
        eventually(lambda: gateway.status("blog") == 200)
        settle()
        with load(gateway, "blog") as failed:
            for number in range(30):
                port, text = (second, "second") if number % 2 == 0 else (first, "first")
                publish("blog", f"127.0.0.1:{port}")
                eventually(lambda text=text: gateway.get("blog").text == text)
        assert failed == []


def test_two_gateways_converge_and_one_may_be_killed(gateway, second_gateway):
    with ExitStack() as stack, serving("hello") as port, serving("moved") as other:
        publish("blog", f"127.0.0.1:{port}")
        for one in (gateway, second_gateway):
            stack.enter_context(one.caddy())
            stack.enter_context(one.syncing())
        for one in (gateway, second_gateway):
            eventually(lambda one=one: one.status("blog") == 200, seconds=90)
        publish("blog", f"127.0.0.1:{other}")
        for one in (gateway, second_gateway):
            eventually(lambda one=one: one.get("blog").text == "moved")
        second_gateway.kill()
        publish("blog", f"127.0.0.1:{port}")
        eventually(lambda: gateway.get("blog").text == "hello")
        assert second_gateway.status("blog") == 0
        with second_gateway.caddy(), second_gateway.syncing():
            eventually(lambda: second_gateway.status("blog") == 200 and second_gateway.get("blog").text == "hello", 90)


def test_a_gateway_that_starts_while_redis_is_away_serves_what_it_knew(gateway, settings):
    with serving("hello") as port, gateway.caddy():
        publish("blog", f"127.0.0.1:{port}")
        stop = threading.Event()
        with in_thread(Syncer(stop).run, stop):
            eventually(lambda: gateway.status("blog") == 200)
    with serving("hello again", port), gateway.caddy():
        settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
        stop = threading.Event()
        with in_thread(Syncer(stop).run, stop):
            eventually(lambda: gateway.status("blog") == 200)


def test_long_lived_connections_outlive_new_routes(gateway, syncer):
    """A WebSocket and an event stream go on while their app's route changes, and each event comes through at once."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).parent / "streaming_app.py"), str(port)]
    with running(command, port=port), serving("moved") as other:
        publish("blog", f"127.0.0.1:{port}")
        eventually(lambda: gateway.status("blog") == 200)
        from websockets.sync.client import connect

        url, host = f"http://127.0.0.1:{gateway.port}", {"Host": "blog.apps.localhost"}
        with (
            connect(f"ws://blog.apps.localhost:{gateway.port}/ws", sock=_to(gateway.port), proxy=None) as socket,
            httpx.stream("GET", f"{url}/events", headers=host, trust_env=False, timeout=10) as events,
        ):
            lines = events.iter_lines()
            assert next(lines) == "data: 0"
            socket.send("one")
            assert socket.recv(timeout=5) == "one"
            publish("blog", f"127.0.0.1:{other}")
            eventually(lambda: gateway.get("blog").text == "moved")
            socket.send("two")
            assert socket.recv(timeout=5) == "two"
            began = time.monotonic()
            assert [line for line in (next(lines), next(lines), next(lines)) if line] != []
            assert time.monotonic() - began < 5


def _to(port):
    import socket

    return socket.create_connection(("127.0.0.1", port))


def test_a_body_larger_than_the_limit_is_refused(gateway, syncer, settings):
    port = free_port()
    with app(port, "taken"):
        publish("blog", f"127.0.0.1:{port}", max_body_bytes=1000)
        eventually(lambda: gateway.status("blog") == 200)
        url, host = f"http://127.0.0.1:{gateway.port}/", {"Host": "blog.apps.localhost"}
        assert httpx.post(url, content=b"x" * 900, headers=host, trust_env=False).status_code == 200
        answer = httpx.post(url, content=b"x" * 2000, headers=host, trust_env=False)
        assert (answer.status_code, "more than this app takes" in answer.text) == (413, True)


@pytest.fixture
def paced(gateway, monkeypatch):
    """A gateway whose log is read; two apps, `blog` and `calm`."""
    monkeypatch.setattr("nodes.gateway.pace.REFUSED_SECONDS", 2.0)
    stop, pace = threading.Event(), Pace()
    with (
        gateway.caddy(),
        serving("hello") as port,
        in_thread(Syncer(stop, pace).run, stop),
        in_thread(Tail(stop, pace).run, stop),
    ):
        publish("blog", f"127.0.0.1:{port}", workload_id="00000000-0000-4000-8000-000000000001")
        publish("calm", f"127.0.0.1:{port}", workload_id="00000000-0000-4000-8000-000000000002")
        eventually(lambda: gateway.status("blog") == 200)
        yield


def as_client(gateway, address, name="blog"):
    """Ask as somebody else: the gateway believes its own machine (config.py)."""
    headers = {"Host": f"{name}.apps.localhost", "X-Forwarded-For": address}
    return httpx.get(f"http://127.0.0.1:{gateway.port}/", headers=headers, trust_env=False, timeout=10).status_code


def test_a_client_that_asks_too_much_is_refused_for_a_while(gateway, settings, paced):
    settings.GATEWAY_CLIENT_REQUESTS_PER_SECOND = 20
    with load(gateway, "blog"):
        eventually(lambda: gateway.status("blog") == 429)
    assert gateway.status("calm") == 200
    assert as_client(gateway, "192.0.2.1") == 200, "another client is not refused"
    answer = gateway.get("blog")
    assert answer.headers["Retry-After"] == "10"
    eventually(lambda: gateway.status("blog") == 200)


def test_a_household_is_one_client_whatever_address_it_asks_from(gateway, settings, paced):
    settings.GATEWAY_CLIENT_REQUESTS_PER_SECOND = 3
    numbers = itertools.count(1)
    eventually(lambda: as_client(gateway, f"2001:db8:1:2::{next(numbers):x}") == 429)
    assert as_client(gateway, "2001:db8:1:2:aaaa:bbbb:cccc:dddd") == 429
    assert as_client(gateway, "2001:db8:1:3::1") == 200


def test_an_app_that_is_asked_too_much_by_many_clients_is_refused_to_all_of_them(gateway, settings, paced):
    settings.GATEWAY_APP_REQUESTS_PER_SECOND = 3
    numbers = itertools.count(1)
    eventually(lambda: as_client(gateway, f"192.0.2.{next(numbers) % 250}") == 429)
    assert as_client(gateway, "198.51.100.7") == 429, "who never asked before is refused too"
    assert as_client(gateway, "198.51.100.7", "calm") == 200, "another app is not"
    eventually(lambda: as_client(gateway, "198.51.100.7") == 200)


def test_an_app_with_a_limit_of_its_own_is_held_to_it_and_the_others_are_not(gateway, settings, paced):
    upstream = json.loads(redis.connection().hget(routes.ROUTES_KEY, "blog"))["upstreams"][0]
    publish("blog", upstream, workload_id="00000000-0000-4000-8000-000000000001", requests_per_second=3)
    eventually(lambda: as_client(gateway, "192.0.2.1") == 429)
    assert as_client(gateway, "192.0.2.1", "BLOG") == 429, "nor is it got round by capital letters"
    assert {as_client(gateway, f"192.0.2.{number}", "calm") for number in range(100)} == {200}


def test_killing_the_syncer_leaves_caddy_serving(gateway):
    with serving("hello") as port, gateway.caddy():
        publish("blog", f"127.0.0.1:{port}")
        with gateway.syncing() as process:
            eventually(lambda: gateway.status("blog") == 200, 90)
            process.kill()
            assert process.wait(10) != 0
        assert gateway.status("blog") == 200


def test_curl_sees_the_pages_with_their_codes(gateway, syncer):
    publish("soon", status="starting")
    publish("off", status="stopped")
    publish("poor", status="grace", grace_ends_at="2026-12-04T15:30:00+00:00")
    eventually(lambda: gateway.status("poor") == 503)
    assert (gateway.status("soon"), gateway.status("off"), gateway.status("none")) == (503, 503, 404)
    assert "4 December 2026, 15:30 UTC" in gateway.get("poor").text
    for name in ("soon", "off", "poor"):
        assert int(gateway.get(name).headers["Retry-After"]) > 0
