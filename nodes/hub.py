"""The links one web process holds: wake-ups go out over them, and the newer of two agents with one key takes the older's place.

Redis is listened to once per process (nodes/services/wake.py), however many devices are connected.
"""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from redis import RedisError
from starlette.websockets import WebSocket, WebSocketDisconnect

from interchain_site.core import redis
from nodes.services import liveness, twins
from nodes.services.wake import CHANNEL

HEARD_EVERY_SECONDS = 5
SEND_SECONDS = 5
AGAIN_AFTER_SECONDS = 0.5
TWIN_ANSWER_SECONDS = 3.0
REPLACED_AWAY_SECONDS = 300

CLOSE_REMOVED = 4403
CLOSE_REPLACED = 4409

log = structlog.get_logger()


@dataclass(eq=False, slots=True)
class Held:
    """One open link.

    Attributes:
        agent: which run of which agent opened it; "" for versions that do not say.
        order: its place among all links ever opened; 0 where nobody counts.
        ping: what was asked over it to see whether anybody is there.
        silent: whether its device was asked for and has said nothing since. An open link to a computer that lost its network looks
            like any other until its pings time out.
    """

    socket: WebSocket
    agent: str = ""
    order: int = 0
    ping: str = ""
    answered: asyncio.Event | None = None
    silent: bool = False


class Hub:
    """The links this process holds."""

    def __init__(self) -> None:
        self._links: dict[UUID, list[Held]] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self.entering = 0

    def add(self, device_id: UUID, held: Held) -> None:
        self._links.setdefault(device_id, []).append(held)

    def holds(self, device_id: UUID) -> bool:
        return device_id in self._links

    def remove(self, device_id: UUID, held: Held) -> None:
        links = self._links.get(device_id, [])
        if held in links:
            links.remove(held)
        if not links:
            self._links.pop(device_id, None)

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
                await asyncio.to_thread(liveness.heard, self._present(), again=True)
            except (RedisError, OSError) as error:
                log.warning("link_beat_lost", error=str(error))
            await asyncio.sleep(HEARD_EVERY_SECONDS)

    def _present(self) -> list[UUID]:
        return [device_id for device_id, links in self._links.items() if not all(held.silent for held in links)]

    def _pass_on(self, data: str) -> None:
        try:
            message = json.loads(data)
            device_id = UUID(message.pop("device"))
            if message["type"] == "newer":
                self._newer(device_id, str(message["agent"]), int(message["order"]))
            else:
                self._tell(device_id, message)
        except (ValueError, KeyError, TypeError):
            log.warning("link_odd_message", data=str(data)[:200])

    def _tell(self, device_id: UUID, message: dict[str, str]) -> None:
        # Each send is a task of its own: a device that reads slowly must not hold up the others.
        for held in self._links.get(device_id, ()):
            closing = message["type"] == "close"
            held.silent = held.silent or message["type"] == "ping"
            self._start(held.socket.close(CLOSE_REMOVED) if closing else held.socket.send_json(message), SEND_SECONDS)

    def _newer(self, device_id: UUID, agent: str, order: int) -> None:
        """A link of this device was opened somewhere: those of another agent that are older give way."""
        for held in self._links.get(device_id, ()):
            if not held.agent or held.agent == agent or held.answered is not None:
                continue
            if held.order < order:
                self._start(self._replace(device_id, held), SEND_SECONDS + TWIN_ANSWER_SECONDS)
            else:  # the one told of came late to its process, and has not heard of this one
                self._start(asyncio.to_thread(twins.opened, device_id, held.agent, held.order), SEND_SECONDS)

    async def _replace(self, device_id: UUID, held: Held) -> None:
        """End an older link. 1. Is anybody there? 2. If so two agents have one key: noted, and the newer hears of it. 3. Closed.

        A computer that lost its power left a link that nobody answers: that is no second agent.
        """
        held.ping, held.answered = uuid.uuid4().hex, asyncio.Event()
        try:
            await held.socket.send_json({"type": "ping", "id": held.ping})
            await asyncio.wait_for(held.answered.wait(), TWIN_ANSWER_SECONDS)
        except (TimeoutError, RuntimeError, WebSocketDisconnect):
            pass
        else:
            await asyncio.to_thread(twins.seen, device_id)
            for other in self._links.get(device_id, ()):
                if other.order > held.order:
                    self._start(other.socket.send_json({"type": "twin"}), SEND_SECONDS)
        self.remove(device_id, held)
        words = away(REPLACED_AWAY_SECONDS, "Another agent uses this device's key.")
        await held.socket.close(CLOSE_REPLACED, words)

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the links."""
        task = asyncio.create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def _start(self, work: Coroutine[Any, Any, None], seconds: float) -> None:
        async def bounded() -> None:
            with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
                await asyncio.wait_for(work, seconds)

        self.later(bounded())


def away(seconds: float, words: str) -> str:
    """Return the reason of a close frame that asks a device to stay away so long (protocol.py)."""
    return f"retry-after={round(seconds)}; {words}"[:120]


def spread(most_seconds: float) -> float:
    """Return a time for one of many to come back, so that not all come at once."""
    return random.uniform(1, most_seconds)  # noqa: S311
