"""One small HTTP request to a stranger: so many bytes and so many seconds at most, whatever the other side does.

`http.client` bounds each read but not all of them together, so one byte a second would hold a caller for hours.
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from nodes.agent import connecting, records
from nodes.agent.errors import AgentError

SECONDS = 3.0
ANSWER_BYTES = 256 * 1024
_HEAD_BYTES = 8192


class PeerSilent(AgentError):
    """No usable answer in time."""


class PeerOdd(AgentError):
    """An answer no honest agent gives."""


def ask(
    address: str, path: str, message: Any = None, *, seconds: float = SECONDS, most: int = ANSWER_BYTES
) -> "dict[str, Any] | None":
    """Return the JSON object another agent answers, or None where it has nothing (204, 404). A message is sent by POST.

    Raises:
        PeerSilent: nothing, or not all of it, in time; or it is busy. PeerOdd: too much, or not HTTP with JSON.
    """
    until = time.monotonic() + seconds
    body = b"" if message is None else json.dumps(message, separators=(",", ":")).encode()
    head = f"{'GET' if message is None else 'POST'} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {len(body)}\r\n\r\n"
    try:
        with connecting.connect(*records.split(address), seconds=seconds) as connection:
            connection.settimeout(_left(until))
            connection.sendall(head.encode() + body)
            data = _all_of(connection, until, most + _HEAD_BYTES)
    except (OSError, UnicodeError) as error:
        raise PeerSilent(f"{address}: {error}") from error
    return _understood(address, data)


def _all_of(connection: socket.socket, until: float, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        connection.settimeout(_left(until))
        chunk = connection.recv(16_384)
        if not chunk:
            return b"".join(parts)
        parts.append(chunk)
        size += len(chunk)
        if size > most:
            raise PeerOdd("an answer without end")


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("not in time")
    return left


def _understood(address: str, data: bytes) -> "dict[str, Any] | None":
    head, gap, body = data.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split()
    if not gap or len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        if not data:
            raise PeerSilent(f"{address}: hung up")
        raise PeerOdd(f"{address}: no HTTP")
    status = int(words[1])
    if status in (204, 404):
        return None
    if status != 200:
        raise PeerSilent(f"{address}: answered {status}")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise PeerOdd(f"{address}: no JSON") from None
    if not isinstance(found, dict):
        raise PeerOdd(f"{address}: no JSON object")
    return found
