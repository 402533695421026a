"""Refuse an oversized body while it arrives: Django under ASGI would first write all of it to disk, whoever sends it."""

from __future__ import annotations

import re

from django.conf import settings
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nodes.agent.protocol import MAX_BODY_BYTES, REPOSITORY_PATH
from nodes.errors import TooLarge

PREFIX = "/api/node/"
UPLOADS = re.compile(r"/(api/v1/)?apps/[^/]+/releases(/new/)?\Z")
SNAPSHOT_BYTES = 160 * 1024 * 1024  # restic's largest packs are of 128 MiB
ROOM_BYTES = 64 * 1024 * 1024  # beyond the largest archive, so that one a little too large is told so in its own words


class _Oversized(Exception):
    pass


class BodyLimit:
    """ASGI middleware: a body ends at what its path may take (`most_bytes`), whatever its headers say."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        size, most = 0, most_bytes(scope["path"])

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > most:
                raise _Oversized
            return message

        try:
            await self.app(scope, counted, send)
        except _Oversized:
            error = (
                TooLarge() if scope["path"].startswith(PREFIX) else TooLarge(f"At most {most} bytes may be sent here.")
            )
            await JSONResponse(error.as_dict(), error.status, {"Connection": "close"})(scope, receive, send)


def most_bytes(path: str) -> int:
    """Return how large a body sent to this path may be: an agent's message, an image archive, or a form."""
    if path.startswith(REPOSITORY_PATH):
        return SNAPSHOT_BYTES
    if path.startswith(PREFIX):
        return MAX_BODY_BYTES
    if UPLOADS.match(path):
        return int(settings.IMAGE_ARCHIVE_MAX_BYTES) + ROOM_BYTES
    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
