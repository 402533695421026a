"""Routes → Caddy's whole JSON configuration. Pure: the same routes always give the same document."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from nodes.gateway import apps, board, pages, spares
from nodes.gateway.apps import Route
from nodes.gateway.pace import EVERYBODY, HOUSEHOLD

SERVER = "interchain"
LOGGER = "gateway"
FAULT_FIELD = "gateway_fault"
AGAIN_HEADER = "X-Interchain-Again"
LOG_FILE_MEGABYTES = 100
LOG_FILES_KEPT = 5

_ID = f"{SERVER}-"


def build(routes: Mapping[str, Route], slots: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Return Caddy's whole configuration but its `admin` part.

    Args:
        slots: how many upstreams a name may have at once; 1 when left out.
    """
    digest = hashlib.sha256(json.dumps(_document(routes, slots or {}, ""), sort_keys=True).encode()).hexdigest()
    return _document(routes, slots or {}, digest[:16])


def _document(routes: Mapping[str, Route], slots: Mapping[str, int], generation: str) -> dict[str, Any]:
    server = {
        "listen": [settings.GATEWAY_LISTEN],
        "read_header_timeout": "10s",
        "routes": [
            *_portal_route(),
            _unusual(generation),
            *apps.routes(routes, slots),
            {"handle": [spares.invoke()], "@id": f"{_ID}{generation}"},
        ],
        "named_routes": {spares.NAMED_ROUTE: spares.named_route(generation)},
        "errors": {"routes": [_too_large(), _cut_short(), _fault()]},
        # Only for what comes back to us by _cut_short.
        "trusted_proxies": {"source": "static", "ranges": ["127.0.0.1/32"]},
        "logs": {"default_logger_name": LOGGER},
    } | _tls_of_server()
    servers = {SERVER: server, **pages.servers(str(board.folder() / board.DATES))}
    return {"apps": {"http": {"servers": servers}} | _tls_app(), "logging": _logging()}


def id_of(config: Mapping[str, Any]) -> str:
    """Return the name under which Caddy knows exactly this configuration."""
    return str(config["apps"]["http"]["servers"][SERVER]["routes"][-1]["@id"])


def generation_of(config: Mapping[str, Any]) -> str:
    """Return what tells this configuration's spare slots from another's: the same names have the same."""
    return id_of(config).removeprefix(_ID)


def _portal_host() -> str:
    return urlsplit(settings.PORTAL_URL).hostname or ""


def _portal_route() -> list[dict[str, Any]]:
    """Where one Caddy fronts everything, the portal itself; its lines in the access log name no workload and are not counted."""
    if not settings.GATEWAY_PORTAL_UPSTREAM:
        return []
    proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": settings.GATEWAY_PORTAL_UPSTREAM}]}
    inside = {"match": [{"path": ["/internal/*"]}], "handle": [{"handler": "static_response", "status_code": 404}]}
    # Devices hold their links open for days; a new configuration must not cut them.
    outside = {"handle": [proxy | {"stream_close_delay": "1h"}]}
    routes = [inside | {"terminal": True}, outside]
    return [
        {
            "match": [{"host": [_portal_host()]}],
            "handle": [{"handler": "subroute", "routes": routes}],
            "terminal": True,
        }
    ]


def _unusual(generation: str) -> dict[str, Any]:
    """Where the board says so: who asks too much is refused; a connection ends with its answer, so that none is idle when
    a new configuration closes the idle ones; a host is served by a spare slot, or not any more, though a shelf has it."""
    client = {
        "handler": "map",
        "source": "{http.vars.client_ip}",
        "destinations": ["{client}"],
        "mappings": [{"input_regexp": pattern, "outputs": ["${1}"]} for pattern in (HOUSEHOLD, "^(.*)$")],
    }
    refused: dict[str, Any] = {
        "match": [
            {
                "file": {
                    "root": str(board.folder() / board.REFUSING),
                    "try_files": ["{http.request.host}/{client}", f"{{http.request.host}}/{EVERYBODY}"],
                }
            }
        ],
        "handle": [apps.mark(FAULT_FIELD, "too many"), pages.page("too_many")],
        "terminal": True,
    }
    # Files are found by a host in small letters, as every browser sends it; in others nobody is to get round this.
    evading = {"vars_regexp": {"{http.request.host}": {"pattern": "[A-Z]"}}}
    refused["match"] = [*refused["match"], evading]
    ends = {"handler": "headers", "response": {"set": {"Connection": ["close"]}, "deferred": True}}
    refusing = {"handler": "subroute", "routes": [{"handle": [client]}, refused]}
    routes = [
        {"handle": [{"handler": "vars", "unusual": board.unusual()}]},  # read once
        {"match": [_says(board.CLOSING)], "handle": [ends]},
        {"match": [_says(board.REFUSING)], "handle": [refusing]},
        {
            "match": [_says(board.SUPERSEDED) | spares.is_superseded(generation)],
            "handle": [spares.invoke()],
            "terminal": True,
        },
    ]
    return {
        "match": [{"file": {"root": str(board.folder()), "try_files": [board.UNUSUAL]}}],
        "handle": [{"handler": "subroute", "routes": routes}],
    }


def _says(mark: str) -> dict[str, Any]:
    return {"vars": {"unusual": board.saying(mark)}}


def _too_large() -> dict[str, Any]:
    return {
        "match": [{"expression": "{http.error.status_code} == 413"}],
        "handle": [apps.mark(FAULT_FIELD, "too large"), pages.page("too_large")],
        "terminal": True,
    }


def _cut_short() -> dict[str, Any]:
    """A request that was waiting for a dead upstream when a new configuration came: Caddy gives it up before its time. It
    goes round once more, so that the new configuration serves it."""
    match = {
        "method": list(apps.SAFE_METHODS),
        "not": [{"header": {AGAIN_HEADER: ["*"]}}],
        "expression": f"{{http.reverse_proxy.duration_ms}} < {apps.TRY_SECONDS * 1000}.0",
    }
    ourselves = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": _own_address()}],
        "headers": {"request": {"set": {AGAIN_HEADER: ["1"]}}},
        # At once: the old configuration, which this belongs to, does not wait any more.
        "load_balancing": {"retries": 5, "try_interval": 0},
        "transport": {"protocol": "http"} | _tls_to_ourselves(),
    }
    return {"match": [match], "handle": [apps.mark(FAULT_FIELD, "again"), ourselves], "terminal": True}


def _fault() -> dict[str, Any]:
    return {"handle": [apps.mark(FAULT_FIELD, "yes"), pages.page("unreachable")]}


def _own_address() -> str:
    host, _, port = settings.GATEWAY_LISTEN.rpartition(":")
    return f"{host if host not in ('', '0.0.0.0', '[::]') else '127.0.0.1'}:{port}"  # noqa: S104 (what we listen on, not a bind)


def _tls_to_ourselves() -> dict[str, Any]:
    if not _is_https():
        return {}
    return {"tls": {"server_name": "{http.request.host}", "insecure_skip_verify": True}}


def _logging() -> dict[str, Any]:
    """The access log: who (LOG_FIELD), when, how much. What clients ask for is the app's business and in neither log; and
    Caddy would make text of each request anew for either of them."""
    dropped = ("request", "resp_headers", "user_id", "duration")
    return {
        "logs": {
            "default": {
                "exclude": [f"http.log.access.{LOGGER}"],
                "encoder": _without(["request"], {"format": "json"}),
            },
            LOGGER: {
                "include": [f"http.log.access.{LOGGER}"],
                "writer": {
                    "output": "file",
                    "filename": str(settings.GATEWAY_ACCESS_LOG),
                    "roll_size_mb": LOG_FILE_MEGABYTES,
                    "roll_keep": LOG_FILES_KEPT,
                    "roll_gzip": False,
                },
                "encoder": _without(dropped, {"format": "json", "level_key": "", "name_key": "", "message_key": ""}),
            },
        }
    }


def _without(fields: Iterable[str], encoder: dict[str, Any]) -> dict[str, Any]:
    return {"format": "filter", "wrap": encoder, "fields": {name: {"filter": "delete"} for name in fields}}


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
    permission = {"module": "http", "endpoint": f"{asked}/internal/tls-ask"}
    issuers = {"issuers": [{"module": settings.GATEWAY_CERTIFICATE_ISSUER}]}
    policies = [*([{"subjects": [_portal_host()], **issuers}] if inside else []), {"on_demand": True, **issuers}]
    return {"tls": {"automation": {"policies": policies, "on_demand": {"permission": permission}}}}
