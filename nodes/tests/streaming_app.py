"""An app with a WebSocket that echoes and an endless event stream; `python streaming_app.py PORT`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvicorn


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
    elif scope["type"] == "http":
        stream = scope["path"] == "/events"
        kind = b"text/event-stream" if stream else b"text/plain"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        for number in range(1_000 if stream else 1):
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
            await asyncio.sleep(0.2 if stream else 0)
        await send({"type": "http.response.body"})


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), lifespan="off", log_level="warning", timeout_graceful_shutdown=1
    )
