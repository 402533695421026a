"""Send a large file without holding it in memory, under ASGI and WSGI alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from django.core.handlers.asgi import ASGIRequest
from django.http import FileResponse, HttpResponseBase, StreamingHttpResponse
from rest_framework.request import Request

CHUNK_BYTES = 256 * 1024


def stream(request: Request, path: Path, *, content_type: str) -> HttpResponseBase:
    """Return a response that reads the file as it is sent."""
    if not isinstance(request._request, ASGIRequest):
        return FileResponse(path.open("rb"), content_type=content_type)
    # Under ASGI Django would read a plain iterator to its end first: two gigabytes in memory.
    headers = {"Content-Length": str(path.stat().st_size)}
    return StreamingHttpResponse(_chunks(path), content_type=content_type, headers=headers)


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
