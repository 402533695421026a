"""Connections to a host by its name, without Python's codec for names beyond ASCII: the tables of Unicode it loads take 0.4 MB for good."""

from __future__ import annotations

import socket


def name_of(host: str) -> "str | bytes":
    """Return the name as what needs no codec to be looked up or compared with a certificate; one beyond ASCII as it is."""
    return host.encode() if host.isascii() else host


def connect(host: str, port: int, *, seconds: float) -> socket.socket:
    """Return a connection; it, and whatever is done with it, may take so long.

    Raises:
        OSError: nobody answers, or the name is not known.
    """
    found = socket.create_connection((name_of(host), port), seconds)  # type: ignore[arg-type]  # getaddrinfo takes both
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found
