"""Caddy's routes of apps: which names there are. Where each is served now stands in files that Caddy reads at each request
(board.py), so that a device may change without a new configuration. Names that came since stand in spare slots (spares.py).
Pure: the same names give the same document.

Caddy sets up a whole configuration again at each change, a third of a millisecond for each route, and closes idle
connections; its `map` handler, on the other hand, reads its lines one after the other. So most apps are lines of a
`map`, about a hundred in one, and each such shelf is found by its hosts, which Caddy looks up by halving. An app that has
had several upstreams, or has limits of its own, has a route on its shelf beside the line: Caddy remembers failures by
address as it is written here, and all lines of a map share one. Names are looked up in small letters, as every browser
sends them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.conf import settings

from nodes.gateway import board

LOG_FIELD = "app"
SHELF_NAMES = 128  # from 101 hosts on, Caddy halves its list instead of reading it
TRY_SECONDS = 2
DIAL_TIMEOUT = "700ms"  # with a live replica no request waits a second; a device by satellite answers in 600 ms
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

_LINE, _UPSTREAM = "{app_line}", "{app_upstream}"

Route = Mapping[str, Any]
"""A document of nodes/services/routes.py: name, workload_id, status, upstreams, and what `route_options` adds."""


def routes(documents: Mapping[str, Route], slots: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return Caddy's routes for all apps, by their hosts."""
    listed = [documents[name] for name in sorted(documents)]
    parts = (listed[start : start + SHELF_NAMES] for start in range(0, len(listed), SHELF_NAMES))
    return [_shelf(part, slots) for part in parts]


def hosts(route: Route) -> list[str]:
    """Return every host that reaches this app: its name here, and its publisher's proven domains."""
    return [f"{route['name']}.{settings.GATEWAY_DOMAIN}".lower(), *route.get("domains", ())]


def line_of(workload_id: str, first: str = "") -> str:
    """Return what the access log says of a request to this app, as `log_lines.Visit` reads it. One field, because each costs
    time, and filled in by Caddy when the answer is known."""
    return f"{workload_id} {{http.vars.client_ip}} {{http.reverse_proxy.upstream.hostport}} {first}"


def mark(key: str, value: str) -> dict[str, Any]:
    """Put a field into the access log's line, so that its reader needs no table of names. A value with several
    placeholders must come from a `map`: here Caddy fills in one alone."""
    return {"handler": "log_append", "key": key, "value": value}


def _shelf(listed: list[Route], slots: Mapping[str, int]) -> dict[str, Any]:
    own = [_own(route, slots.get(route["name"], 1)) for route in listed if _has_own(route, slots)]
    handle = from_map(
        "{http.request.host}", (line for route in listed if not _has_own(route, slots) for line in _lines(route))
    )
    every = [host for route in listed for host in hosts(route)]
    return {
        "match": [{"host": every}],
        "handle": [*([{"handler": "subroute", "routes": own}] if own else []), *handle],
        "terminal": True,
    }


def from_map(source: str, lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return handlers for apps that are lines of one map: what it is asked for → what the log says, and the upstream."""
    table = {"handler": "map", "source": source, "destinations": [_LINE, _UPSTREAM], "mappings": list(lines)}
    return [table, mark(LOG_FIELD, _LINE), _limit(settings.GATEWAY_MAX_BODY_BYTES), _proxy([_UPSTREAM])]


def _lines(route: Route) -> Iterator[dict[str, Any]]:
    outputs = [line_of(route.get("workload_id", "")), board.slot_of(route["name"], 0)]
    return ({"input": host, "outputs": outputs} for host in hosts(route))


def _has_own(route: Route, slots: Mapping[str, int]) -> bool:
    return slots.get(route["name"], 1) > 1 or bool(route.get("max_body_bytes"))


def _own(route: Route, count: int) -> dict[str, Any]:
    """A route of its own, for a succession of upstreams or limits unlike the others'."""
    upstreams = [board.slot_of(route["name"], number) for number in range(count)]
    limit = route.get("max_body_bytes") or settings.GATEWAY_MAX_BODY_BYTES
    handle = by_itself(route.get("workload_id", ""), upstreams, limit)
    return {"match": [{"host": hosts(route)}], "handle": handle, "terminal": True}


def by_itself(workload_id: str, upstreams: list[str], max_body_bytes: int) -> list[dict[str, Any]]:
    """Return handlers for one app alone: Caddy remembers which of its upstreams failed."""
    line = line_of(workload_id, first=upstreams[0])
    return [
        # One line for every request, however its Host is written: not every Caddy fills in a map's defaults.
        {"handler": "map", "source": "any", "destinations": [_LINE], "mappings": [{"input": "any", "outputs": [line]}]},
        mark(LOG_FIELD, _LINE),
        _limit(max_body_bytes),
        _proxy(upstreams),
    ]


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
