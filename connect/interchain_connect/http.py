"""One HTTP request to a node nobody vouches for: so many bytes and so many seconds at most, whatever it does."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

SECONDS = 3.0
ANSWER_BYTES = 64 * 1024


class NoAnswer(Exception):
    """Nothing usable came in time."""


async def ask(node: str, path: str, message: Any = None, *, seconds: float = SECONDS) -> dict[str, Any] | None:
    """Return the JSON object a node answers, or None where it has nothing (204, 404). A message is sent by POST.

    Args:
        node: `host:port`, or the portal's address with http:// or https://.

    Raises:
        NoAnswer: nothing, not in time, too much, or no JSON.
    """
    try:
        return await asyncio.wait_for(_exchange(node, path, message), seconds)
    except (OSError, ValueError, RecursionError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
        raise NoAnswer(f"{node}: {error or 'not in time'}") from None


async def _exchange(node: str, path: str, message: Any) -> dict[str, Any] | None:
    parts = urlsplit(node if "://" in node else f"http://{node}")
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=secure, limit=ANSWER_BYTES)
    try:
        body = b"" if message is None else json.dumps(message).encode()
        head = (
            f"{'GET' if message is None else 'POST'} {parts.path.rstrip('/')}{path} HTTP/1.0\r\nHost: {parts.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        return _understood(await _all_of(reader))
    finally:
        writer.transport.abort()  # a node that does not take our bytes must not keep us


async def _all_of(reader: asyncio.StreamReader) -> bytes:
    data = b""
    while chunk := await reader.read(16_384):
        data += chunk
        if len(data) > ANSWER_BYTES:
            raise ValueError("an answer without end")
    return data


def _understood(data: bytes) -> dict[str, Any] | None:
    head, _, body = data.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ValueError("no HTTP")
    status = int(words[1])
    if status in (204, 404):
        return None
    if status != 200:
        raise ValueError(f"answered {status}")
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found
