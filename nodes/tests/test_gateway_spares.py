"""Which names go to spare slots of the gateway's configuration, and which must wait for a new one."""

from __future__ import annotations

import re

import pytest

from nodes.gateway import spares
from nodes.gateway.spares import Spares


@pytest.mark.parametrize(
    "host",
    ["", ".", "..", "../x", "x/y", "*", "b?", "[b]", "b\\", "B", "b ", "b\n", "-b", "bl\u00f6g", "{b}", "a" * 254],
)
def test_only_a_plain_host_becomes_part_of_a_path(host):
    """Go and Caddy refuse or quote most of these themselves; the folder of slots does not rely on it."""
    assert re.search(spares.SAFE_HOST.replace("$", r"\Z"), host) is None
    assert re.search(spares.SAFE_HOST, "xn--blg-sna.example-1.com")


def routes_of(*names, **more):
    live = {"status": "live", "upstreams": ["127.0.0.1:9"], "max_body_bytes": 0}
    return {name: live | {"name": name, "workload_id": f"w-{name}"} | more for name in names}


def admitted(slots, routes):
    counts = {name: len(route["upstreams"]) for name, route in routes.items()}
    return slots.admit(spares.table(routes, counts))


def test_when_slots_are_used_up_a_new_configuration_is_due(gateway, monkeypatch):
    monkeypatch.setattr("nodes.gateway.spares.SHELVES", 1)
    monkeypatch.setattr("nodes.gateway.spares.SHELF_SLOTS", 3)
    monkeypatch.setattr("nodes.gateway.spares.SUCCESSIONS", 1)
    slots = Spares("g", {})
    assert admitted(slots, routes_of("a", "b", "c"))
    assert admitted(slots, routes_of("a", "b") | routes_of("c", upstreams=["127.0.0.1:1", "127.0.0.1:2"]))
    assert not admitted(slots, routes_of("a") | routes_of("b", upstreams=["127.0.0.1:1", "127.0.0.1:2"]))
    assert not admitted(slots, routes_of("a", "b", "c", "d")), "c's first slot stays c's: a request may wait there"
    assert admitted(slots, routes_of("a", "b"))


@pytest.mark.parametrize("place", ["spare slot", "shelf"])
@pytest.mark.parametrize(
    "changed",
    [{"workload_id": "another"}, {"max_body_bytes": 1000}, {"name": "other", "domains": ["a.apps.localhost"]}],
)
def test_another_workload_limit_or_owner_of_a_host_is_a_new_configuration(gateway, place, changed):
    known = spares.table(routes_of("a"), {}) if place == "shelf" else {}
    slots = Spares("g", known)
    assert admitted(slots, routes_of("a"))
    [route] = routes_of("a").values()
    assert not admitted(slots, {changed.get("name", "a"): route | changed})
