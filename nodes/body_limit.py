"""Refuse an oversized message of an agent while it arrives: Django under ASGI would first write all of it to disk."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nodes.agent.protocol import MAX_BODY_BYTES
from nodes.errors import TooLarge

PREFIX = "/api/node/"


class _Oversized(Exception):
    pass


class BodyLimit:
    """ASGI middleware: bodies under `/api/node/` end at protocol.MAX_BODY_BYTES, whatever their headers say."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self.app(scope, receive, send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY_BYTES:
                raise _Oversized
            return message

        try:
            await self.app(scope, counted, send)
        except _Oversized:
            error = TooLarge()
            await JSONResponse(error.as_dict(), error.status, {"Connection": "close"})(scope, receive, send)
