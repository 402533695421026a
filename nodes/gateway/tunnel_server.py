"""Where devices behind NAT arrive: an SSH server (asyncssh) that does nothing but listen at ports for them.

Who enters is a device with its own key; where it may listen says the database at each wish, and again every two seconds, so
that a removed device and an ended lease are cut off. No shell, no other forwarding.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncssh
import structlog
from asgiref.sync import sync_to_async
from cryptography.hazmat.primitives import serialization
from django.conf import settings
from django.db import close_old_connections

from nodes.services import tunnels

CHECK_SECONDS = 2.0

log = structlog.get_logger()


class _Connection(asyncssh.SSHServer):
    """One device's connection; ends as soon as it may not be there."""

    def __init__(self, everybody: set[_Connection]) -> None:
        self._everybody = everybody
        self.device_id, self.key, self.ports = "", b"", set[int]()
        self.connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connection = conn
        self._everybody.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._everybody.discard(self)

    def begin_auth(self, username: str) -> bool:
        self.device_id = username
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        raw = _ed25519(key)
        if raw is None or not await _ask(tunnels.may_enter, device_id=username, key=raw):
            return False
        self.key = raw
        return True

    async def server_requested(self, listen_host: str, listen_port: int) -> bool:
        allowed = listen_host == settings.TUNNEL_BIND and await _ask(
            tunnels.may_listen, device_id=self.device_id, port=listen_port
        )
        if allowed:
            self.ports.add(listen_port)
        else:
            log.warning("tunnel_refused", device=self.device_id, host=listen_host, port=listen_port)
        return bool(allowed)

    async def still_allowed(self) -> bool:
        """Return whether the device, its key and each of its ports are still right."""
        if not self.key:
            return True  # not let in yet; asyncssh ends it in time
        if not await _ask(tunnels.may_enter, device_id=self.device_id, key=self.key):
            return False
        return all([await _ask(tunnels.may_listen, device_id=self.device_id, port=port) for port in self.ports])


async def serve(stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    everybody: set[_Connection] = set()
    server = await asyncssh.create_server(
        lambda: _Connection(everybody),
        settings.TUNNEL_LISTEN.rpartition(":")[0] or None,
        int(settings.TUNNEL_LISTEN.rpartition(":")[2]),
        server_host_keys=[await _ask(tunnels.host_key)],
        login_timeout=20,
        keepalive_interval=5,
        keepalive_count_max=2,
        agent_forwarding=False,
        x11_forwarding=False,
        allow_pty=False,
    )
    try:
        while not stop.is_set():
            for one in list(everybody):
                if one.connection is not None and not await one.still_allowed():
                    log.info("tunnel_cut", device=one.device_id, ports=sorted(one.ports))
                    one.connection.abort()
            try:
                await asyncio.wait_for(stop.wait(), CHECK_SECONDS)
            except TimeoutError:
                continue
    finally:
        server.close()


def _ed25519(key: asyncssh.SSHKey) -> bytes | None:
    if key.get_algorithm() != "ssh-ed25519":
        return None
    public: Any = serialization.load_ssh_public_key(key.export_public_key())
    return bytes(public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))


async def _ask(question: Any, **facts: Any) -> Any:
    def asked() -> Any:
        close_old_connections()
        return question(**facts)

    return await sync_to_async(asked, thread_sensitive=True)()
