"""Caddy's routes of apps. Pure: the same routes always give the same document.

Whatever is changed in it, by its admin API's `/id/…` too, Caddy sets up the whole again, and that takes a third of a
millisecond for each route; its `map` handler, on the other hand, reads its lines one after the other. So most apps are
lines of a `map`, about a hundred in one, and each such shelf is found by its hosts, which Caddy looks up by halving.
An app with several upstreams, or limits of its own, has a route on its shelf instead: Caddy remembers failures by
address, and all lines of a map share one. Names are looked up in small letters, as every browser sends them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.conf import settings

from nodes.gateway import pages

WORKLOAD_FIELD = "workload"
UPSTREAM_FIELD = "upstream"
FIRST_FIELD = "first"
SHELF_NAMES = 128  # from 101 hosts on, Caddy halves its list instead of reading it
TRY_SECONDS = 2
DIAL_TIMEOUT = "1s"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

_STATUS, _WORKLOAD, _UPSTREAM, _UNTIL = "{app_status}", "{app_workload}", "{app_upstream}", pages.UNTIL
_REACHED = "{http.reverse_proxy.upstream.hostport}"

Route = Mapping[str, Any]
"""A document of nodes/services/routes.py: name, workload_id, status, upstreams, and what `route_options` adds."""


def routes(documents: Mapping[str, Route]) -> list[dict[str, Any]]:
    """Return Caddy's routes for all apps; the last one answers for every other host too."""
    listed = [documents[name] for name in sorted(documents)]
    shelves = [_shelf(listed[start : start + SHELF_NAMES]) for start in range(0, len(listed), SHELF_NAMES)]
    return [*shelves, _by_status()]


def hosts(route: Route) -> list[str]:
    """Return every host that reaches this app: its name here, and its publisher's proven domains."""
    return [f"{route['name']}.{settings.GATEWAY_DOMAIN}".lower(), *route.get("domains", ())]


def mark(key: str, value: str) -> dict[str, Any]:
    """Put a field into the access log's line, so that its reader needs no table of names."""
    return {"handler": "log_append", "key": key, "value": value}


def _shelf(listed: list[Route]) -> dict[str, Any]:
    lines = [line for route in listed if not _has_own(route) for line in _lines(route)]
    table = {
        "handler": "map",
        "source": "{http.request.host}",
        "destinations": [_STATUS, _WORKLOAD, _UPSTREAM, _UNTIL],
        "mappings": lines,
    }
    own = [_own(route) for route in listed if _has_own(route)]
    handle = [*([{"handler": "subroute", "routes": own}] if own else []), *([table] if lines else [])]
    return {"match": [{"host": [host for route in listed for host in hosts(route)]}], "handle": handle}


def _lines(route: Route) -> Iterator[dict[str, Any]]:
    served = [route["workload_id"], *route["upstreams"]] if route["status"] == "live" else ["", ""]
    outputs = [route["status"], *served, pages.date(route.get("grace_ends_at"))]
    return ({"input": host, "outputs": outputs} for host in hosts(route))


def _by_status() -> dict[str, Any]:
    """What a shelf's line says of the host decides."""
    marks = [mark(WORKLOAD_FIELD, _WORKLOAD), mark(UPSTREAM_FIELD, _UPSTREAM), _limit(settings.GATEWAY_MAX_BODY_BYTES)]
    live = _when("live", *marks, _proxy([_UPSTREAM]))
    waits = [_when(status, pages.page(status)) for status in ("starting", "stopped", "grace")]
    unknown = {"handle": [pages.page("unknown")]}
    return {"handle": [{"handler": "subroute", "routes": [live, *waits, unknown]}]}


def _when(status: str, *handlers: dict[str, Any]) -> dict[str, Any]:
    return {"match": [{"vars": {_STATUS: [status]}}], "handle": list(handlers), "terminal": True}


def _has_own(route: Route) -> bool:
    return route["status"] == "live" and (len(route["upstreams"]) > 1 or bool(route.get("max_body_bytes")))


def _own(route: Route) -> dict[str, Any]:
    """A route of its own, for a succession of upstreams or limits unlike the others'."""
    handle = [
        mark(WORKLOAD_FIELD, route["workload_id"]),
        mark(UPSTREAM_FIELD, _REACHED),
        mark(FIRST_FIELD, route["upstreams"][0]),
        _limit(route.get("max_body_bytes") or settings.GATEWAY_MAX_BODY_BYTES),
        _proxy(route["upstreams"]),
    ]
    return {"match": [{"host": hosts(route)}], "handle": handle, "terminal": True}


def _limit(max_body_bytes: int) -> dict[str, Any]:
    return {"handler": "request_body", "max_size": max_body_bytes}


def _proxy(upstreams: Iterable[str]) -> dict[str, Any]:
    listed = [{"dial": address} for address in upstreams]
    proxy: dict[str, Any] = {
        "handler": "reverse_proxy",
        "upstreams": listed,
        # The list is a succession: the first that answers serves. A connection that fails is tried again for two
        # seconds, whatever the method, for nothing was sent; what was sent is sent again only where that is safe.
        "load_balancing": {
            "selection_policy": {"policy": "first"},
            "try_duration": f"{TRY_SECONDS}s",
            "try_interval": "50ms",
            "retry_match": [{"method": list(SAFE_METHODS)}],
        },
        "transport": {"protocol": "http", "dial_timeout": DIAL_TIMEOUT},
        # A new configuration must not cut the WebSockets that the old one carries.
        "stream_close_delay": "1h",
        # No flush_interval: Caddy passes on at once whatever has no length, event streams included, and a -1 would
        # keep a request alive at the app after its client left.
    }
    if len(listed) > 1:
        # With nobody to fail over to, remembering a failure would only prolong it.
        proxy["health_checks"] = {"passive": {"fail_duration": "5s"}}
    return proxy
