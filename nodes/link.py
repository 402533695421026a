"""The device link: one WebSocket per device, in front of Django, because Django would hold a thread for each.

The agent's first message is a JWT. From then on the portal only says `{"type": "look"}`, and `ping` when somebody could not reach the device: desired state and results go over
plain HTTPS, so a lost message costs nothing. A device counts as heard while its link is open; the server's WebSocket pings
end a link whose other side is gone, and a device that leaves says why in its close frame (run uvicorn with `--ws-ping-interval 5 --ws-ping-timeout 10`).

Redis is listened to once per process (nodes/services/wake.py), however many devices are connected.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections
from redis import RedisError
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from interchain_site.core import redis
from interchain_site.core.errors import DomainError
from nodes.agent.protocol import Goodbye
from nodes.services import identity, liveness, pings, suspicion
from nodes.services.wake import CHANNEL

FIRST_MESSAGE_SECONDS = 10
HEARD_EVERY_SECONDS = 5
SEND_SECONDS = 5
AGAIN_AFTER_SECONDS = 0.5
MOST_TEXT = 200

CLOSE_UNAUTHENTICATED = 4401
CLOSE_REMOVED = 4403
CLOSE_TRY_LATER = 1013
CLOSE_GOING_AWAY = 1001
CLOSE_ABNORMAL = 1006
OUR_OWN_CLOSES = frozenset({1012, CLOSE_REMOVED, CLOSE_UNAUTHENTICATED})  # 1012: this server is restarting
FAREWELLS = frozenset(reason.value for reason in Goodbye)

log = structlog.get_logger()


class Hub:
    """The links this process holds."""

    def __init__(self) -> None:
        self._links: dict[UUID, set[WebSocket]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    def add(self, device_id: UUID, socket: WebSocket) -> None:
        self._links.setdefault(device_id, set()).add(socket)

    def holds(self, device_id: UUID) -> bool:
        return device_id in self._links

    def remove(self, device_id: UUID, socket: WebSocket) -> None:
        sockets = self._links.get(device_id, set())
        sockets.discard(socket)
        if not sockets:
            self._links.pop(device_id, None)

    def suspect_later(self, device_id: UUID) -> None:
        """A link broke off without a word: give its device a moment to call again, then ask who is there."""
        task = asyncio.create_task(self._suspect(device_id))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _suspect(self, device_id: UUID) -> None:
        await asyncio.sleep(settings.LINK_RETURN_SECONDS)
        if not self.holds(device_id):
            await asyncio.to_thread(_suspect, device_id)

    async def listen(self) -> None:
        """Pass wake-ups on until cancelled; Redis may come and go."""
        while True:
            try:
                client = redis.async_connection()
                async with client, client.pubsub() as pubsub:
                    await pubsub.subscribe(CHANNEL)
                    # Wake-ups may have been missed while nobody listened.
                    for device_id in list(self._links):
                        self._tell(device_id, {"type": "look"})
                    async for message in pubsub.listen():
                        if message["type"] == "message":
                            self._pass_on(message["data"])
            except (RedisError, OSError) as error:
                log.warning("link_lost_redis", error=str(error))
                await asyncio.sleep(AGAIN_AFTER_SECONDS)

    async def beat(self) -> None:
        """Note again and again that this process listens and which devices are connected, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(liveness.listening)
                await asyncio.to_thread(liveness.heard, list(self._links), again=True)
            except (RedisError, OSError) as error:
                log.warning("link_beat_lost", error=str(error))
            await asyncio.sleep(HEARD_EVERY_SECONDS)

    def _pass_on(self, data: str) -> None:
        try:
            message = json.loads(data)
            self._tell(UUID(message.pop("device")), message)
        except (ValueError, KeyError, TypeError):
            log.warning("link_odd_message", data=str(data)[:200])

    def _tell(self, device_id: UUID, message: dict[str, str]) -> None:
        # Each send is a task of its own: a device that reads slowly must not hold up the others.
        for socket in self._links.get(device_id, ()):
            self._start(socket.close(CLOSE_REMOVED) if message["type"] == "close" else socket.send_json(message))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
                await asyncio.wait_for(work, SEND_SECONDS)

        task = asyncio.create_task(bounded())
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)


async def link(socket: WebSocket) -> None:
    """Hold one device's link until either side ends it."""
    await socket.accept()
    hub: Hub = socket.app.state.hub
    try:
        token = await asyncio.wait_for(socket.receive_text(), FIRST_MESSAGE_SECONDS)
        device_id = await sync_to_async(_enter, thread_sensitive=False)(token)
    except (TimeoutError, KeyError):
        await socket.close(CLOSE_UNAUTHENTICATED, "The first message is a JWT.")
        return
    except DomainError as error:
        code = {403: CLOSE_REMOVED, 503: CLOSE_TRY_LATER}.get(error.status, CLOSE_UNAUTHENTICATED)
        await socket.close(code, error.message[:120])
        return
    except WebSocketDisconnect:
        return
    hub.add(device_id, socket)
    reason, code = "", CLOSE_ABNORMAL
    try:
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            if ping := _ping_answered(message.get("text") or ""):
                await asyncio.to_thread(_note_answer, ping)
        code = int(message.get("code") or CLOSE_ABNORMAL)
        reason = str(message.get("reason") or "") if code == CLOSE_GOING_AWAY else ""
    finally:
        hub.remove(device_id, socket)
    if reason in FAREWELLS and not hub.holds(device_id):
        await sync_to_async(_leave, thread_sensitive=False)(device_id, Goodbye(reason))
    elif code not in OUR_OWN_CLOSES and not hub.holds(device_id):
        hub.suspect_later(device_id)


def _suspect(device_id: UUID) -> None:
    close_old_connections()
    try:
        suspicion.suspect_link(device_id)
    finally:
        close_old_connections()


def _ping_answered(text: str) -> str:
    """Return the id of the ping that a device's message answers; "" for any other message."""
    try:
        message = json.loads(text[:MOST_TEXT])
        return UUID(message["id"]).hex if message["type"] == "pong" else ""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""


def _note_answer(ping: str) -> None:
    with suppress(RedisError):
        pings.answered(ping)


def _leave(device_id: UUID, reason: Goodbye) -> None:
    """Take a device's goodbye; in a thread, because the database is not asynchronous."""
    close_old_connections()
    try:
        liveness.goodbye(device_id, reason)
    finally:
        close_old_connections()


def _enter(token: str) -> UUID:
    """Find out who calls; in a thread, because the database is not asynchronous."""
    close_old_connections()
    try:
        device = identity.authenticate(token)
        liveness.mark_online(device)
        return device.pk
    finally:
        close_old_connections()


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Run the hub as long as the process serves."""
    app.state.hub = hub = Hub()
    tasks = [asyncio.create_task(hub.listen()), asyncio.create_task(hub.beat())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


routes = [WebSocketRoute("/link/", link)]
