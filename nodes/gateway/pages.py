"""What a browser sees instead of an app, as Caddy's handlers: whole pages without anything to load."""

from __future__ import annotations

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
}
_AGAIN = {
    "starting": {"Retry-After": ["2"], "Refresh": ["2"]},
    "stopped": {"Retry-After": ["60"]},
    "grace": {"Retry-After": ["3600"]},
    "unreachable": {"Retry-After": ["5"], "Refresh": ["5"]},
    "too_many": {"Retry-After": ["10"]},
}
"""When to look again: a browser obeys Refresh by itself, a program Retry-After."""


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


def date(moment: str | None) -> str:
    """Return an ISO 8601 time as a page shows it, in UTC; empty for None."""
    return f"{datetime.fromisoformat(moment):%-d %B %Y, %H:%M} UTC" if moment else ""


@lru_cache
def _body(name: str, portal_url: str) -> str:
    return render_to_string(f"nodes/gateway/{name}.html", {"portal_url": portal_url, "until": UNTIL})
