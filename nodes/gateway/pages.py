"""What a browser sees instead of an app, as Caddy's handlers: whole pages without anything to load.

Pages of apps that are not live are served by small servers of Caddy's own, one socket for each, so that an app may go from
one to another, and to its device, as it goes from device to device (board.py).
"""

from __future__ import annotations

import hashlib
import tempfile
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string

UNTIL = "{app_until}"
"""Filled in by Caddy: until when a stopped app's data is kept."""

_STATUS_CODES: dict[str, int | str] = {
    "unknown": 404,
    "starting": 503,
    "stopped": 503,
    "grace": 503,
    "unreachable": "{http.error.status_code}",
    "too_many": 429,
    "too_large": 413,
}
_AGAIN = {
    "starting": {"Retry-After": ["2"], "Refresh": ["2"]},
    "stopped": {"Retry-After": ["60"]},
    "grace": {"Retry-After": ["3600"]},
    "unreachable": {"Retry-After": ["5"], "Refresh": ["5"]},
    "too_many": {"Retry-After": ["10"]},
}
"""When to look again: a browser obeys Refresh by itself, a program Retry-After."""


WAITING = ("starting", "stopped", "grace")
"""The pages of apps that are not live, named as the routes' statuses."""

UNKNOWN = "unknown"
"""The page of an app that is gone, and of any other host nobody has."""

SERVED = (*WAITING, UNKNOWN)
"""The pages that have a server of Caddy's own."""


def address(status: str) -> str:
    """Return where Caddy itself serves the page of this status. The path is short: a socket's may have 107 characters."""
    site = hashlib.sha256(str(settings.GATEWAY_ACCESS_LOG).encode()).hexdigest()[:10]
    shown = status if status in SERVED else "stopped"
    return f"unix/{tempfile.gettempdir()}/interchain-{site}-{shown}.sock"


def servers(dates: str) -> dict[str, Any]:
    """Return Caddy's servers of the pages in SERVED.

    Args:
        dates: a folder in which each host has one; the name of the one file there is its UNTIL.
    """
    find = {"match": [{"file": {"root": dates, "try_files": ["{http.request.host}/*"]}}], "handle": []}
    read = {
        "handler": "map",
        "source": "{http.matchers.file.relative}",
        "destinations": [UNTIL],
        "mappings": [{"input_regexp": "([^/]+)$", "outputs": ["${1}"]}],
    }
    return {
        f"page_{status}": {
            "listen": [address(status)],
            "routes": [*([find, {"handle": [read]}] if status == "grace" else []), {"handle": [page(status)]}],
            "automatic_https": {"disable": True},
        }
        for status in SERVED
    }


def page(name: str) -> dict[str, Any]:
    """Return the handler that answers with this page and its status code."""
    return {
        "handler": "static_response",
        "status_code": _STATUS_CODES[name],
        "headers": {
            "Content-Type": ["text/html; charset=utf-8"],
            "Cache-Control": ["no-store"],
            **_AGAIN.get(name, {}),
        },
        "body": _body(name, settings.PORTAL_URL),
    }


def date(moment: str) -> str:
    """Return an ISO 8601 time as a page shows it, in UTC."""
    return f"{datetime.fromisoformat(moment):%-d %B %Y, %H:%M} UTC"


@lru_cache
def _body(name: str, portal_url: str) -> str:
    return render_to_string(f"nodes/gateway/{name}.html", {"portal_url": portal_url, "until": UNTIL})
