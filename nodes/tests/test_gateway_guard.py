"""Many apps vanishing at once are a mistake until staff say otherwise: served on, told, and let go when confirmed."""

from __future__ import annotations

import json
import threading

import pytest
from django.core.management import call_command

from interchain_site.core import redis
from interchain_site.core.models import StaffAlert
from nodes.conftest import eventually, in_thread, serving
from nodes.gateway.guard import Guard
from nodes.gateway.syncer import Syncer
from nodes.services import gateways, routes


def table(first, last, status="live"):
    return {f"app{n}": {"name": f"app{n}", "status": status} for n in range(first, last)}


def live(served):
    return sum(route["status"] == "live" for route in served.values())


def test_three_of_ten_may_go_and_four_may_not():
    guard = Guard()
    guard.admit(table(0, 10))
    assert live(guard.admit(table(0, 7))) == 7
    assert live(guard.admit(table(0, 6))) == 10
    assert len(guard.held) == 4


def test_stopping_all_at_once_is_refused_and_what_is_new_is_taken():
    guard = Guard()
    guard.admit(table(0, 100))
    served = guard.admit(table(0, 100, status="stopped") | table(100, 103))
    assert (live(served), len(guard.held)) == (103, 100)


def test_what_is_live_again_is_served_by_the_table():
    guard = Guard()
    guard.admit(table(0, 20))
    guard.admit({})
    wanted = {name: route | {"upstreams": ["new"]} for name, route in table(0, 20).items()}
    assert guard.admit(wanted) == wanted
    assert guard.held == {}


def test_few_apps_are_not_guarded_and_slow_stops_are_let_go(monkeypatch):
    guard = Guard()
    guard.admit(table(0, 9))
    assert guard.admit({}) == {}
    guard = Guard()
    clock = [1_000_000.0]
    monkeypatch.setattr("nodes.gateway.guard.time.time", lambda: clock[0])
    for left in range(40, 0, -1):
        assert live(guard.admit(table(0, left))) == left
        clock[0] += 30


def test_staff_confirm_only_what_they_could_have_seen(monkeypatch):
    guard = Guard()
    clock = [1_000_000.0]
    monkeypatch.setattr("nodes.gateway.guard.time.time", lambda: clock[0])
    guard.admit(table(0, 20))
    clock[0] += 10
    assert live(guard.admit({}, confirmed_at=1_000_005.0)) == 20
    assert live(guard.admit({}, confirmed_at=1_000_011.0)) == 0
    assert live(guard.admit({})) == 0


@pytest.mark.django_db(transaction=True)
def test_a_real_gateway_serves_on_tells_staff_and_lets_go_when_confirmed(gateway, monkeypatch):
    monkeypatch.setattr("nodes.gateway.syncer.REFRESH_SECONDS", 0.2)
    stop, client = threading.Event(), redis.connection()
    with gateway.caddy(), serving("hello") as port, in_thread(Syncer(stop).run, stop):
        for n in range(20):
            route = {"name": f"app{n}", "workload_id": f"w{n}", "status": "live", "upstreams": [f"127.0.0.1:{port}"]}
            client.hset(routes.ROUTES_KEY, f"app{n}", json.dumps(route))
        client.set(routes.COMPLETE_KEY, "1")
        client.publish(routes.CHANGED_CHANNEL, routes.ALL)
        eventually(lambda: gateway.status("app7") == 200)
        gateways.watch()
        assert not StaffAlert.objects.exists()

        client.hdel(routes.ROUTES_KEY, *(f"app{n}" for n in range(6)))  # 30 of a hundred
        client.publish(routes.CHANGED_CHANNEL, routes.ALL)
        eventually(lambda: gateway.status("app5") == 404)
        assert not gateways.held()
        client.hdel(routes.ROUTES_KEY, "app6")  # one too many within the minute
        client.publish(routes.CHANGED_CHANNEL, routes.ALL)
        eventually(lambda: sum(gateways.held().values()) == 7)
        assert gateway.status("app6") == 200

        client.delete(routes.ROUTES_KEY)
        client.publish(routes.CHANGED_CHANNEL, routes.ALL)
        eventually(lambda: sum(gateways.held().values()) == 20)
        gateways.watch()
        assert StaffAlert.objects.standing().get().code == "routes_vanished"
        assert gateway.status("app7") == 200

        call_command("confirm_routes")
        eventually(lambda: gateway.status("app7") == 404)
        eventually(lambda: not gateways.held())
        gateways.watch()
        assert not StaffAlert.objects.standing().exists()
