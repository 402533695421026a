"""Send a large file without holding it in memory, under ASGI and WSGI alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from django.http import HttpResponseBase
from rest_framework.request import Request

from nodes.streaming import CHUNK_BYTES, streamed


def stream(request: Request, path: Path, *, content_type: str) -> HttpResponseBase:
    """Return a response that reads the file as it is sent."""
    headers = {"Content-Length": str(path.stat().st_size)}
    return streamed(request._request, _chunks(path), content_type=content_type, headers=headers)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
