"""The device link: one WebSocket per device, in front of Django, because Django would hold a thread for each.

The agent's first message is a JWT, and with the nonce in it the portal proves itself in turn (nodes/services/link_keys.py). From then on
the portal only says `{"type": "look"}`, and `ping` when somebody could not reach the device: desired state and results go over
plain HTTPS, so a lost message costs nothing. A device counts as heard while its link is open; the server's WebSocket pings
end a link whose other side is gone, and a device that leaves says why in its close frame.

Run uvicorn with `--ws-ping-interval 5 --ws-ping-timeout 10 --ws-max-size 16384 --ws-per-message-deflate false`: bench/agent has
what a link takes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections
from redis import RedisError
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from interchain_site.core.errors import DomainError
from nodes.agent.protocol import Goodbye, to_json
from nodes.calls import Calls
from nodes.hub import CLOSE_REMOVED, CLOSE_REPLACED, Held, Hub, away, spread
from nodes.services import identity, link_keys, liveness, pings, signatures, suspicion, twins

FIRST_MESSAGE_SECONDS = 10
MOST_ENTERING = 100  # a web process lets in some hundred a second; who waits longer had better come back later
AWAY_SECONDS = 60.0  # over which those are spread
MOST_TEXT = 200

CLOSE_UNAUTHENTICATED = 4401
CLOSE_TRY_LATER = 1013
CLOSE_GOING_AWAY = 1001
CLOSE_ABNORMAL = 1006
OUR_OWN_CLOSES = frozenset(
    {1012, CLOSE_REMOVED, CLOSE_REPLACED, CLOSE_UNAUTHENTICATED}
)  # 1012: this server is restarting
FAREWELLS = frozenset(reason.value for reason in Goodbye)


@dataclass(frozen=True)
class Entry:
    """Who came in, and what convinces it of us; no proof for an agent that asks for none."""

    device_id: UUID
    agent: str
    order: int
    proof: str


async def link(socket: WebSocket) -> None:
    """Hold one device's link until either side ends it."""
    await socket.accept()
    hub: Hub = socket.app.state.hub
    try:
        entry = await _let_in(hub, socket)
    except WebSocketDisconnect:
        return
    if entry is None:
        return
    held = Held(socket, entry.agent, entry.order)
    hub.add(entry.device_id, held)
    reason, code = "", CLOSE_ABNORMAL
    try:
        if entry.agent and entry.order:
            await asyncio.to_thread(twins.opened, entry.device_id, entry.agent, entry.order)
        reason, code = await _listen(socket, held)
    finally:
        hub.remove(entry.device_id, held)
    if reason in FAREWELLS and not hub.holds(entry.device_id):
        await sync_to_async(_leave, thread_sensitive=False)(entry.device_id, Goodbye(reason))
    elif code not in OUR_OWN_CLOSES and not hub.holds(entry.device_id):
        hub.later(_suspect(hub, entry.device_id))


async def _suspect(hub: Hub, device_id: UUID) -> None:
    """A link broke off without a word: give its device a moment to call again, then ask who is there."""
    await asyncio.sleep(settings.LINK_RETURN_SECONDS)
    if not hub.holds(device_id):
        await asyncio.to_thread(_ask, device_id)


def _ask(device_id: UUID) -> None:
    close_old_connections()
    try:
        suspicion.suspect_link(device_id)
    finally:
        close_old_connections()


async def _let_in(hub: Hub, socket: WebSocket) -> Entry | None:
    """Exchange proofs; None when the device was sent away."""
    try:
        token = await asyncio.wait_for(socket.receive_text(), FIRST_MESSAGE_SECONDS)
    except (TimeoutError, KeyError):
        await socket.close(CLOSE_UNAUTHENTICATED, "The first message is a JWT.")
        return None
    calls: Calls = socket.app.state.calls
    if hub.entering >= MOST_ENTERING:
        await socket.close(CLOSE_TRY_LATER, away(spread(AWAY_SECONDS), "Too many devices come at once."))
        return None
    hub.entering += 1
    try:
        entry = await calls.run(lambda: _enter(token))
    except DomainError as error:
        if error.status == 503:
            await socket.close(CLOSE_TRY_LATER, away(spread(AWAY_SECONDS / 4), error.message))
        else:
            code = CLOSE_REMOVED if error.status == 403 else CLOSE_UNAUTHENTICATED
            await socket.close(code, error.message[:120])
        return None
    finally:
        hub.entering -= 1
    if entry.proof:
        with suppress(RuntimeError):
            await socket.send_text(entry.proof)
    return entry


async def _listen(socket: WebSocket, held: Held) -> tuple[str, int]:
    """Take pongs until the link ends; returns why the device left, "" when it did not say, and the code of the close."""
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        held.silent = False
        ping = _ping_answered(message.get("text") or "")
        if ping and ping == held.ping and held.answered is not None:
            held.answered.set()
        elif ping:
            await asyncio.to_thread(_note_answer, ping)
    code = int(message.get("code") or CLOSE_ABNORMAL)
    return (str(message.get("reason") or "") if code == CLOSE_GOING_AWAY else ""), code


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


def _enter(token: str) -> Entry:
    """Find out who calls, and answer its nonce; in a thread, because the database is not asynchronous."""
    device = identity.authenticate(token)
    liveness.mark_online(device)
    claims = signatures.json_object(signatures.read(token).payload)  # `authenticate` proved them
    nonce, agent, known = (_text(claims.get(name)) for name in ("nonce", "agent", "portal_key"))
    proof = to_json(link_keys.proof(device_id=device.pk, nonce=nonce, known=known)).decode() if nonce else ""
    return Entry(device.pk, agent, twins.order() if agent else 0, proof)


def _text(claim: object) -> str:
    return claim if isinstance(claim, str) and len(claim) <= 100 else ""


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
