"""The gateway on a real Caddy: from a running report to an answer, and through every restart."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from interchain_site.core import redis
from interchain_site.testing.devices import make_workload
from interchain_site.testing.servers import free_port, valkey
from nodes.agent.protocol import Observed
from nodes.conftest import GATEWAY_SETTINGS, eventually, in_thread, serving
from nodes.gateway import config
from nodes.gateway.syncer import REFRESH_SECONDS, Syncer
from nodes.services import leases, placement, routes


@pytest.mark.django_db(transaction=True)
def test_a_name_follows_its_lease(box, gateway, syncer):
    lease = placement.open_lease(workload=make_workload("blog"), by=None)
    eventually(lambda: gateway.status("blog") == 503, seconds=30)
    assert "is starting" in gateway.get("blog").text
    with serving("hello from the device") as port:
        box.runs(lease, host_port=port)
        eventually(lambda: gateway.status("blog") == 200)
        assert gateway.get("blog").text == "hello from the device"
        leases.mark_lost(lease.pk)
        time.sleep(0.2)
        assert gateway.status("blog") == 200  # the portal not hearing it is no reason to stop serving
        leases.close_lease(lease_id=lease.pk, by=None)
        eventually(lambda: "is stopped" in gateway.get("blog").text)
    box.says(lease, Observed.STOPPED)
    leases.wipe_lease(lease_id=lease.pk, by=None)
    box.wipes(lease)
    eventually(lambda: gateway.status("blog") == 404)


@pytest.mark.django_db(transaction=True)
def test_a_route_is_live_when_it_is_published_not_when_the_table_is_read_again(box, gateway, syncer):
    took = []
    with serving("hello") as port:
        for number in range(5):
            lease = placement.open_lease(workload=make_workload(f"app{number}"), by=None)
            box.says(lease, Observed.PREPARING)
            time.sleep(0.3)
            began = time.perf_counter()
            box.says(lease, Observed.RUNNING, host_port=port)
            eventually(lambda name=f"app{number}": gateway.status(name) == 200)
            took.append(time.perf_counter() - began)
    assert sorted(took)[2] < REFRESH_SECONDS / 4, took


@pytest.mark.django_db(transaction=True)
def test_a_device_that_does_not_answer_gets_a_page_not_an_error(box, gateway, syncer):
    lease = placement.open_lease(workload=make_workload("blog"), by=None)
    with serving("hello") as port:
        box.runs(lease, host_port=port)
        eventually(lambda: gateway.status("blog") == 200)
    answer = gateway.get("blog")
    assert (answer.status_code, "not answering" in answer.text) == (502, True)
    with serving("back", port):
        assert gateway.get("blog").text == "back"


@pytest.mark.django_db(transaction=True)
def test_a_caddy_that_starts_again_gets_its_routes_back(box, gateway):
    stop = threading.Event()
    with serving("hello") as port, in_thread(Syncer(stop).run, stop):
        box.runs(placement.open_lease(workload=make_workload("blog"), by=None), host_port=port)
        for _ in range(2):
            with gateway.caddy():
                eventually(lambda: gateway.status("blog") == 200)


@pytest.mark.django_db(transaction=True)
def test_routes_outlive_an_emptied_redis(box, gateway, syncer, monkeypatch):
    monkeypatch.setattr("nodes.gateway.syncer.REFRESH_SECONDS", 0.1)
    with serving("hello") as port:
        box.runs(placement.open_lease(workload=make_workload("blog"), by=None), host_port=port)
        eventually(lambda: gateway.status("blog") == 200)
        redis.connection().flushall()
        time.sleep(1.5)
        assert gateway.status("blog") == 200
        assert routes.republish_all() == 1
        assert routes.republish_all() == 0
        time.sleep(0.3)
        assert gateway.status("blog") == 200


def test_only_a_complete_redis_makes_a_gateway_forget(gateway):
    syncer = Syncer(threading.Event())
    syncer._routes = {"blog": {"name": "blog"}}
    syncer._refresh()
    assert set(syncer._routes) == {"blog"}
    redis.connection().set(routes.COMPLETE_KEY, "1")
    syncer._refresh()
    assert syncer._routes == {}


@pytest.mark.django_db(transaction=True)
def test_the_sweep_removes_a_name_nobody_has_any_more(gateway, syncer):
    redis.connection().hset(routes.ROUTES_KEY, "ghost", '{"name":"ghost","status":"stopped","upstreams":[]}')
    redis.connection().publish(routes.CHANGED_CHANNEL, "ghost")
    eventually(lambda: gateway.status("ghost") == 503)
    assert routes.republish_all() == 1
    eventually(lambda: gateway.status("ghost") == 404)


@pytest.mark.django_db(transaction=True)
def test_an_older_document_never_replaces_a_newer_one(box):
    lease = placement.open_lease(workload=make_workload("blog"), by=None)
    old = routes.document_of([lease])
    box.runs(lease)
    routes._write([old])
    routes._write([old | {"order": [old["order"][0] - 1, 99]}])
    assert '"status": "live"' in redis.connection().hget(routes.ROUTES_KEY, "blog")


@pytest.mark.django_db(transaction=True)
def test_the_command_serves_through_a_redis_restart_and_ends_on_sigterm(box, gateway, settings):
    port = free_port()
    settings.REDIS_URL = f"redis://127.0.0.1:{port}/0"
    env = {name: str(getattr(settings, name)) for name in GATEWAY_SETTINGS} | {"DEBUG": "1", "PATH": os.environ["PATH"]}
    with serving("hello") as app, gateway.caddy(), ExitStack() as processes:
        with valkey(port):
            command = [sys.executable, "manage.py", "gateway"]
            process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            processes.callback(process.kill)
            lease = placement.open_lease(workload=make_workload("blog"), by=None)
            box.runs(lease, host_port=app)
            routes.republish_all()
            eventually(lambda: gateway.status("blog") == 200, seconds=90)
        time.sleep(1)
        assert gateway.status("blog") == 200
        with valkey(port):
            leases.close_lease(lease_id=lease.pk, by=None)
            routes.republish_all()
            eventually(lambda: gateway.status("blog") == 503, seconds=30)
            process.terminate()
            assert process.wait(10) == 0


def test_the_first_of_a_succession_serves_and_the_next_takes_over(gateway, settings):
    stop = threading.Event()
    with gateway.caddy(), serving("second") as second, serving("first") as first:
        syncer = Syncer(stop)
        upstreams = [f"127.0.0.1:{first}", f"127.0.0.1:{second}"]
        syncer._routes = {"blog": {"name": "blog", "workload_id": "w", "status": "live", "upstreams": upstreams}}
        syncer._apply()
        assert gateway.get("blog").text == "first"
        syncer._routes = {"blog": syncer._routes["blog"] | {"upstreams": ["127.0.0.1:9", f"127.0.0.1:{second}"]}}
        syncer._apply()
        assert gateway.get("blog").text == "second"


def test_many_names_are_served_side_by_side_and_changed_fast(gateway):
    """A change with 1,000 names takes about as long as with one: they are lines of a table, not routes."""
    with gateway.caddy(), serving("one") as one, serving("two") as two:
        syncer = Syncer(threading.Event())
        route = {"status": "live", "upstreams": [f"127.0.0.1:{one}"]}
        syncer._routes = {f"app{n}": route | {"name": f"app{n}", "workload_id": f"w{n}"} for n in range(1000)}
        syncer._routes["app1"] |= {"status": "starting", "upstreams": []}
        syncer._routes["app2"] |= {"status": "stopped", "upstreams": []}
        syncer._routes["app3"] |= {"upstreams": [f"127.0.0.1:{two}"]}
        syncer._apply()
        assert (gateway.get("app0").text, gateway.get("app3").text, gateway.get("app999").text) == ("one", "two", "one")
        assert "is starting" in gateway.get("app1").text
        assert "is stopped" in gateway.get("app2").text
        assert gateway.status("app1000") == 404
        took = []
        for upstream in (two, one, two):
            changed = syncer._routes["app500"] | {"upstreams": [f"127.0.0.1:{upstream}"]}
            syncer._routes = syncer._routes | {"app500": changed}
            began = time.perf_counter()
            syncer._apply()
            took.append(time.perf_counter() - began)
        assert gateway.get("app500").text == "two"
        assert min(took) < 1, took


def test_certificates_are_asked_for_on_demand_when_the_gateway_is_https(settings):
    settings.GATEWAY_PUBLIC_URL = "https://apps.example"
    built = config.build({})
    assert built["apps"]["tls"]["automation"]["on_demand"]["permission"]["endpoint"].endswith("/internal/tls-ask")
    assert "automatic_https" not in built["apps"]["http"]["servers"]["interchain"]
