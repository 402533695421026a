"""docker-compose.yml: names only settings that exist, and one Caddy fronts the portal and the apps."""

from __future__ import annotations

import yaml

from interchain_site.local import house_rules as rules
from interchain_site.local.steps import ROOT
from nodes.gateway.config import build

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_every_variable_is_a_setting():
    read = rules.settings_read((ROOT / "interchain_site" / "settings.py").read_text())
    for name in ("web", "worker", "chain-worker", "beat", "gateway"):
        assert set(COMPOSE["services"][name]["environment"]) <= read


def test_every_process_of_the_map_is_there():
    assert set(COMPOSE["services"]) == {
        "postgres",
        "redis",
        "web",
        "worker",
        "chain-worker",
        "beat",
        "caddy",
        "gateway",
        "tunnel",
    }


def test_the_front_serves_the_portal_and_asks_it_from_inside(settings):
    settings.PORTAL_URL = "https://interchain.example"
    settings.GATEWAY_PUBLIC_URL = "https://apps.interchain.example"
    settings.GATEWAY_PORTAL_UPSTREAM = "web:8000"
    built = build({})["apps"]
    route = built["http"]["servers"]["interchain"]["routes"][0]
    assert route["match"] == [{"host": ["interchain.example"]}]
    inside, outside = route["handle"][0]["routes"]
    assert inside["match"] == [{"path": ["/internal/*"]}]  # only Caddy itself may ask there
    assert outside["handle"][0]["upstreams"] == [{"dial": "web:8000"}]
    automation = built["tls"]["automation"]
    assert automation["policies"] == [
        {"subjects": ["interchain.example"], "issuers": [{"module": "acme"}]},
        {"on_demand": True, "issuers": [{"module": "acme"}]},
    ]
    assert automation["on_demand"]["permission"]["endpoint"] == "http://web:8000/internal/tls-ask"


def test_without_an_upstream_the_gateway_serves_only_apps(settings):
    settings.GATEWAY_PORTAL_UPSTREAM = ""
    routes = build({})["apps"]["http"]["servers"]["interchain"]["routes"]
    assert "interchain.example" not in str([route.get("match") for route in routes])
