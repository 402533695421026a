"""Caddy's admin API; callers never see HTTP. Raises `CaddyUnreachable` (try again) or `CaddyRefused` (our mistake)."""

from __future__ import annotations

from typing import Any

import httpx
from django.conf import settings


class CaddyUnreachable(Exception):
    """Nobody answers at GATEWAY_ADMIN_URL, or not in time."""


class CaddyRefused(Exception):
    """Caddy answered that the configuration is wrong, and keeps the one it has."""


class Caddy:
    """One Caddy process, wherever GATEWAY_ADMIN_URL says."""

    def __init__(self) -> None:
        self._client = httpx.Client(base_url=settings.GATEWAY_ADMIN_URL, timeout=10, trust_env=False)

    def load(self, config: dict[str, Any]) -> None:
        """Make this the whole configuration; what it says of its own admin API stays."""
        admin = (self._call("GET", "/config/").json() or {}).get("admin")
        whole = config | ({"admin": admin} if admin else {})
        answer = self._call("POST", "/load", json=whole)
        if answer.status_code != 200:
            raise CaddyRefused(answer.text[:1000])

    def has(self, config_id: str) -> bool:
        """Return whether the configuration with this id (config.id_of) is the one in force."""
        return self._call("GET", f"/id/{config_id}").status_code == 200

    def close(self) -> None:
        self._client.close()

    def _call(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **more)
        except httpx.HTTPError as error:
            raise CaddyUnreachable(f"{settings.GATEWAY_ADMIN_URL}: {error}") from error
