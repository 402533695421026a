"""Where the gateway may reach a device. A device names its own host and port, so both are checked: otherwise an owner
could have the gateway serve the portal's private services under a public name.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

from django.conf import settings

from nodes.errors import Invalid, Malformed

LOWEST_PORT = 1024
_USUAL_PORTS = frozenset({5432, 6379})  # PostgreSQL and Redis, when their URLs name none
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\Z")


def check_host(host: str, *, seen_address: str) -> str:
    """Return the host to reach a device at: the one it names, or the address the portal sees when it names none.

    On a portal for strangers (PRIVATE_ENDPOINTS off) it must be a public address; a name is resolved once, here, because
    a name that points elsewhere later would get around this check.

    Raises:
        Invalid: it is not a host, or not one the gateway may reach.
    """
    host = (host or seen_address).strip().strip("[]")
    if settings.PRIVATE_ENDPOINTS:
        if _is_address(host) or _HOST_NAME.match(host):
            return host
        raise _refused(f"{host!r} is not a host name or address.")
    for address in _addresses(host):
        if _is_public(address):
            return address
    raise _refused(f"{host!r} is not a public address; clients could not reach it.")


def check_port(host: str, port: int) -> None:
    """Accept 0 (none yet) or a port that can be an app's.

    Raises:
        Malformed: it cannot.
    """
    if port == 0:
        return
    if not LOWEST_PORT <= port <= 65535:
        raise Malformed(f"Report.statuses.host_port: {port} is not a port from {LOWEST_PORT} to 65535.")
    # On every portal: a device may name the portal's own public address.
    if port in _own_ports():
        raise Malformed(f"Report.statuses.host_port: {port} is one of the portal's own ports.")


def _own_ports() -> set[int]:
    urls = (
        settings.REDIS_URL,
        settings.GATEWAY_ADMIN_URL,
        settings.PORTAL_URL,
        settings.ETHEREUM_RPC_URL,
        settings.STRIPE_API_BASE,
        "//" + settings.GATEWAY_LISTEN,
        "//" + settings.TUNNEL_LISTEN,
        "//" + settings.GATEWAY_PORTAL_UPSTREAM,
    )
    ports = {urlsplit(url).port for url in urls} | {settings.DATABASES["default"].get("PORT")}
    return {int(port) for port in ports if port} | _USUAL_PORTS


def _is_public(address: str) -> bool:
    known = ipaddress.ip_address(address)
    if not known.is_global or known.is_multicast:
        return False
    # Python calls IPv6 addresses global that only wrap an IPv4 address, also a private one.
    return known.version == 4 or (known in _GLOBAL_UNICAST and known.sixtofour is None)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    # Python takes any text for the zone after %, and Caddy would read {placeholders} in it.
    return "%" not in host


def _addresses(host: str) -> list[str]:
    if _is_address(host):
        return [host]
    if not _HOST_NAME.match(host):
        return []
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except OSError:
        return []


def _refused(message: str) -> Invalid:
    return Invalid(message, fields={"endpoint_host": message})
