"""Routes → Caddy's JSON configuration. Pure: the same routes always give the same document.

Whatever is changed in it, by its admin API's `/id/…` too, Caddy sets up the whole again, and that takes a third of a
millisecond for each route. So the apps are no routes but lines of one table (its `map` handler), which a single route reads:
with 5,000 apps a change takes 0.1 s instead of 1.3 s. Names are looked up in small letters, as every browser sends them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.template.loader import render_to_string

SERVER = "interchain"
LOGGER = "gateway"
WORKLOAD_FIELD = "workload"
FAULT_FIELD = "gateway_fault"
LOG_FILE_MEGABYTES = 100
LOG_FILES_KEPT = 5

_STATUS, _WORKLOAD, _UPSTREAM = "{app_status}", "{app_workload}", "{app_upstream}"
_AGAIN = {"starting": {"Retry-After": ["2"], "Refresh": ["2"]}, "stopped": {"Retry-After": ["60"]}}
"""When to look again: a browser obeys Refresh by itself, a program Retry-After."""

Route = Mapping[str, Any]
"""A document of nodes/services/routes.py: name, workload_id, status, upstreams."""


def build(routes: Mapping[str, Route]) -> dict[str, Any]:
    """Return Caddy's whole configuration but its `admin` part."""
    listed = [routes[name] for name in sorted(routes)]
    server = {
        "listen": [settings.GATEWAY_LISTEN],
        "read_header_timeout": "10s",
        "routes": [*_portal_route(), *(_succession(route) for route in listed if _has_many(route)), _apps(listed)],
        "errors": {
            "routes": [
                {
                    "handle": [
                        _mark(FAULT_FIELD, "yes"),
                        _page("unreachable", "{http.error.status_code}", {"Refresh": ["5"]}),
                    ]
                }
            ]
        },
        "logs": {"default_logger_name": LOGGER},
    } | _tls_of_server()
    config = {"apps": {"http": {"servers": {SERVER: server}}} | _tls_app(), "logging": _logging()}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    server["routes"][-1]["@id"] = f"{SERVER}-{digest}"
    return config


def id_of(config: Mapping[str, Any]) -> str:
    """Return the name under which Caddy knows exactly this configuration."""
    return str(config["apps"]["http"]["servers"][SERVER]["routes"][-1]["@id"])


def _portal_host() -> str:
    return urlsplit(settings.PORTAL_URL).hostname or ""


def _portal_route() -> list[dict[str, Any]]:
    """Where one Caddy fronts everything, the portal itself; its lines in the access log name no workload and are not counted."""
    if not settings.GATEWAY_PORTAL_UPSTREAM:
        return []
    proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": settings.GATEWAY_PORTAL_UPSTREAM}]}
    # Devices hold their links open for days; a new configuration must not cut them.
    return [{"match": [{"host": [_portal_host()]}], "handle": [proxy | {"stream_close_delay": "1h"}], "terminal": True}]


def _apps(routes: Iterable[Route]) -> dict[str, Any]:
    """One route for all apps: look the name up, then serve by what the table says of it."""
    lines = [_line(route) for route in routes if not _has_many(route)]
    table = {
        "handler": "map",
        "source": "{http.request.host}",
        "destinations": [_STATUS, _WORKLOAD, _UPSTREAM],
        "mappings": lines,
        "defaults": ["unknown", "", ""],
    }
    serve = _when("live", _mark(WORKLOAD_FIELD, _WORKLOAD), _proxy([_UPSTREAM]))
    waits = [_when(status, _page(status, 503, again)) for status, again in _AGAIN.items()]
    return {"handle": [table, {"handler": "subroute", "routes": [serve, *waits, _unknown()]}]}


def _line(route: Route) -> dict[str, Any]:
    served = [route["workload_id"], *route["upstreams"]] if route["status"] == "live" else ["", ""]
    return {"input": _host(route), "outputs": [route["status"], *served]}


def _when(status: str, *handlers: dict[str, Any]) -> dict[str, Any]:
    return {"match": [{"vars": {_STATUS: [status]}}], "handle": list(handlers), "terminal": True}


def _succession(route: Route) -> dict[str, Any]:
    """A route of its own: Caddy remembers failures by address, and all lines of the table share one."""
    handle = [_mark(WORKLOAD_FIELD, route["workload_id"]), _proxy(route["upstreams"])]
    return {"match": [{"host": [_host(route)]}], "handle": handle, "terminal": True}


def _has_many(route: Route) -> bool:
    return route["status"] == "live" and len(route["upstreams"]) > 1


def _host(route: Route) -> str:
    return f"{route['name']}.{settings.GATEWAY_DOMAIN}".lower()


def _proxy(upstreams: list[str]) -> dict[str, Any]:
    proxy: dict[str, Any] = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": address} for address in upstreams],
        # The list is a succession: the first that answers serves; a connection that fails is tried again for 2 s.
        "load_balancing": {"selection_policy": {"policy": "first"}, "try_duration": "2s", "try_interval": "50ms"},
        "transport": {"protocol": "http", "dial_timeout": "2s"},
        # A new configuration must not cut the WebSockets that the old one carries.
        "stream_close_delay": "1h",
    }
    if len(upstreams) > 1:
        # With nobody to fail over to, remembering a failure would only prolong it.
        proxy["health_checks"] = {"passive": {"fail_duration": "5s"}}
    return proxy


def _unknown() -> dict[str, Any]:
    return {"handle": [_page("unknown", 404)]}


def _page(name: str, status: int | str, headers: Mapping[str, list[str]] | None = None) -> dict[str, Any]:
    return {
        "handler": "static_response",
        "status_code": status,
        "headers": {"Content-Type": ["text/html; charset=utf-8"], "Cache-Control": ["no-store"], **(headers or {})},
        "body": _body(name, settings.PORTAL_URL),
    }


@lru_cache
def _body(name: str, portal_url: str) -> str:
    return render_to_string(f"nodes/gateway/{name}.html", {"portal_url": portal_url})


def _mark(key: str, value: str) -> dict[str, Any]:
    """Put a field into the access log's line, so that its reader needs no table of names."""
    return {"handler": "log_append", "key": key, "value": value}


def _logging() -> dict[str, Any]:
    dropped = ("request>headers", "request>uri", "request>tls", "resp_headers", "user_id")
    return {
        "logs": {
            "default": {"exclude": [f"http.log.access.{LOGGER}"]},
            LOGGER: {
                "include": [f"http.log.access.{LOGGER}"],
                "writer": {
                    "output": "file",
                    "filename": str(settings.GATEWAY_ACCESS_LOG),
                    "roll_size_mb": LOG_FILE_MEGABYTES,
                    "roll_keep": LOG_FILES_KEPT,
                    "roll_gzip": False,
                },
                # What clients ask for is the app's business; only who, when and how much is needed here.
                "encoder": {
                    "format": "filter",
                    "wrap": {"format": "json"},
                    "fields": {name: {"filter": "delete"} for name in dropped},
                },
            },
        }
    }


def _is_https() -> bool:
    return bool(settings.GATEWAY_PUBLIC_URL.startswith("https://"))


def _tls_of_server() -> dict[str, Any]:
    if _is_https():
        return {"tls_connection_policies": [{}]}
    return {"automatic_https": {"disable": True}}


def _tls_app() -> dict[str, Any]:
    """Certificates on demand: before Caddy asks for one, the portal says whether the name is one of its own."""
    if not _is_https():
        return {}
    inside = settings.GATEWAY_PORTAL_UPSTREAM  # asking through our own front would need the certificate first
    asked = f"http://{inside}" if inside else settings.PORTAL_URL
    permission = {"module": "http", "endpoint": f"{asked}/gateway/ask"}
    policies = [*([{"subjects": [_portal_host()]}] if inside else []), {"on_demand": True}]
    return {"tls": {"automation": {"policies": policies, "on_demand": {"permission": permission}}}}
