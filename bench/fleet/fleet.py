"""Simulated agents: real Ed25519 keys, real WebSockets, real HTTP, signed with the agent's own code. One asyncio process, no Django.

Agent number n has the same id and key in every process (`device_id`, `key_of`), so that the portal's side can be filled first.
What it does is one of: `idle` holds links; `watch` holds links and fetches desired state at each wake-up; `readings` posts signed batches;
`herd` holds links and opens each again when it ends, after the pause an agent makes.
Results go to stdout as JSON lines.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import resource
import secrets
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from nacl.signing import SigningKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from nodes.agent import protocol
from nodes.agent.config import Config, Home
from nodes.agent.keys import DeviceKey
from nodes.agent.link import MESSAGE_BYTES, OPEN_SECONDS
from nodes.agent.link_pauses import LinkPauses
from nodes.agent.link_trust import LinkTrust

DIALS_AT_ONCE = 20
NOWHERE = Home(Path("/nonexistent"))  # the portal's key is given, so none is ever saved
METERS = (
    (protocol.Meter.COMPUTE, protocol.Method.CALIBRATED),
    (protocol.Meter.TRANSFER, protocol.Method.INTERFACE),
    (protocol.Meter.STORAGE, protocol.Method.VOLUME),
    (protocol.Meter.UPTIME, protocol.Method.CLOCK),
)


def device_id(number: int) -> uuid.UUID:
    return uuid.UUID(int=(1 << 100) + number)


def key_of(number: int) -> DeviceKey:
    return DeviceKey(SigningKey(hashlib.sha256(b"bench/fleet %d" % number).digest()))


def lease_id(number: int, place: int) -> uuid.UUID:
    return uuid.UUID(int=(2 << 100) + number * 1000 + place)


class Agent:
    """One device: its key, its link, its kept HTTP connection."""

    def __init__(self, number: int, portal: str, link_key: str) -> None:
        self.id, self.key, self.portal = str(device_id(number)), key_of(number), portal
        self.number = number
        self._trust = LinkTrust(NOWHERE, Config(self.id, portal, "", 0, link_key=link_key))
        self._parts = urlsplit(portal)
        self._http: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._http_free = asyncio.Lock()
        self.etag = ""

    def token(self, **claims: str) -> str:
        return self.key.token(device_id=self.id, audience=self.portal, now=time.time(), **claims)

    async def dial(self) -> ClientConnection:
        """Open the link as nodes/agent/link.py does: the first message is the token, the first answer the portal's proof."""
        socket = await connect(
            f"ws://{self._parts.netloc}{protocol.LINK_PATH}",
            open_timeout=6 * OPEN_SECONDS,
            ping_interval=None,  # the portal's pings are answered; ours would only measure ourselves
            max_size=MESSAGE_BYTES,
            compression=None,
            proxy=None,
        )
        nonce = secrets.token_urlsafe(24)
        await socket.send(self.token(**self._trust.claims(nonce)))
        self._trust.check(json.loads(await socket.recv()), nonce)
        return socket

    async def desired(self) -> int:
        """Fetch desired state unless it is unchanged; returns the status."""
        async with self._http_free:  # a poll and a wake-up may meet
            status, headers, _ = await self.call(
                "GET", protocol.DESIRED_PATH, b"", {"If-None-Match": self.etag or '""'}
            )
        self.etag = headers.get("etag", "")
        return status

    async def call(
        self, method: str, path: str, body: bytes, headers: dict[str, str], token: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        """One HTTP/1.1 request over the kept connection, which is opened anew when the portal closed it."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._parts.netloc}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"Authorization: Bearer {token or self.token()}", "", ""]
        for attempt in (1, 2):
            if self._http is None:
                self._http = await asyncio.open_connection(self._parts.hostname, self._parts.port)
            reader, writer = self._http
            try:
                writer.write("\r\n".join(lines).encode() + body)
                return await _answer(reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()
                self._http = None
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    status = int((await reader.readuntil(b"\r\n")).split()[1])
    headers = {}
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return status, headers, await reader.readexactly(int(headers.get("content-length", 0)))


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


async def linked(agents: list[Agent]) -> list[ClientConnection]:
    """Open every link, some at a time."""
    turn, began = asyncio.Semaphore(DIALS_AT_ONCE), time.monotonic()

    async def one(agent: Agent) -> ClientConnection:
        async with turn:
            return await agent.dial()

    sockets = await asyncio.gather(*(one(agent) for agent in agents))
    say(linked=len(sockets), seconds=time.monotonic() - began)
    return sockets


async def idle(agents: list[Agent]) -> None:
    """Hold links until stdin ends."""
    sockets = await linked(agents)
    await asyncio.to_thread(sys.stdin.read)
    say(still_open=sum(socket.state == 1 for socket in sockets))


async def watch(agents: list[Agent], *, polls: float) -> None:
    """Hold links; at each wake-up fetch desired state and say when it was here. Poll beside it, `polls` a second in all."""
    sockets = await linked(agents)
    turn = asyncio.Semaphore(DIALS_AT_ONCE)

    async def first(agent: Agent) -> None:
        async with turn:
            await agent.desired()

    await asyncio.gather(*(first(agent) for agent in agents))  # as a fleet that runs: it knows what it should

    async def one(agent: Agent, socket: ClientConnection) -> None:
        async for text in socket:
            if json.loads(text).get("type") == "look":
                looked = time.time()
                status = await agent.desired()
                say(device=agent.id, status=status, looked=looked, fetched=time.time())

    async def poll() -> None:
        for round_ in range(10**9):
            asyncio.get_running_loop().create_task(agents[round_ % len(agents)].desired())
            await asyncio.sleep(1 / polls)

    work = [asyncio.create_task(one(*pair)) for pair in zip(agents, sockets, strict=True)]
    if polls:
        work.append(asyncio.create_task(poll()))
    say(ready=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in work:
        task.cancel()


async def herd(agents: list[Agent]) -> None:
    """Hold links; open each again as nodes/agent/link.py does, and say of each when it opened, and when and how it ended."""
    sockets = await linked(agents)

    async def again(agent: Agent, socket: ClientConnection | None) -> None:
        pauses, began = LinkPauses(), time.monotonic()
        while True:
            code, reason, was_open = None, "", False
            try:
                socket = socket or await agent.dial()
                was_open = True
                say(opened=time.time())
                await socket.wait_closed()
                code, reason = socket.close_code, socket.close_reason or ""
            except ConnectionClosed as error:
                if error.rcvd:
                    code, reason = error.rcvd.code, error.rcvd.reason
            except (OSError, TimeoutError, InvalidMessage, InvalidStatus):
                pass  # nobody answers there yet
            say(closed=time.time(), code=code, was_open=was_open)
            socket = None
            await asyncio.sleep(sum(pauses.next(held_seconds=time.monotonic() - began, code=code, reason=reason)))
            began = time.monotonic()

    work = [asyncio.create_task(again(*pair)) for pair in zip(agents, sockets, strict=True)]
    say(ready=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in work:
        task.cancel()


async def readings(agents: list[Agent], *, leases: int, meters: int, batches: int, at_once: int) -> None:
    """Post `batches` signed batches, `at_once` under way at any time; each agent's totals grow. Signed before the clock starts."""
    prepared = [
        (agent, _batch(agent, leases, meters, round_).encode(), agent.token())
        for round_ in range(1 + batches // len(agents))
        for agent in agents
    ][:batches]
    say(prepared=len(prepared), readings=leases * meters)
    await asyncio.to_thread(sys.stdin.readline)
    turn, taken, failed = asyncio.Semaphore(at_once), [], []

    async def one(agent: Agent, jws: bytes, token: str) -> None:
        async with turn:
            began = time.perf_counter()
            headers = {"Content-Type": "application/jose"}
            status, _, body = await agent.call("POST", protocol.READINGS_PATH, jws, headers, token)
            taken.append(time.perf_counter() - began)
            if status != 200 or json.loads(body)["duplicate"]:
                failed.append(f"{status} {body[:200]!r}")

    began = time.perf_counter()
    await asyncio.gather(*(one(*each) for each in prepared))
    say(seconds=time.perf_counter() - began, taken=taken, failed=len(failed), example=failed[:1])
    await asyncio.to_thread(sys.stdin.read)


def _batch(agent: Agent, leases: int, meters: int, round_: int) -> str:
    now = datetime.now(UTC).isoformat()
    said = tuple(
        protocol.Reading(
            str(lease_id(agent.number, place)), 1, meter, int(time.time() * 1000) % 2**31 + round_, now, method
        )
        for place in range(leases)
        for meter, method in METERS[:meters]
    )
    return agent.key.sign(protocol.to_json(protocol.ReadingBatch(str(uuid.uuid4()), agent.id, now, said)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["idle", "watch", "herd", "readings"])
    parser.add_argument("--portal", required=True)
    parser.add_argument("--link-key", required=True, help="by which the portal proves itself")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first agent")
    parser.add_argument("--polls", type=float, default=0)
    parser.add_argument("--leases", type=int, default=25)
    parser.add_argument("--meters", type=int, default=4)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=8)
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    numbers = range(asked.first, asked.first + asked.count)
    agents = [Agent(number, asked.portal, asked.link_key) for number in numbers]
    if asked.what == "idle":
        asyncio.run(idle(agents))
    elif asked.what == "herd":
        asyncio.run(herd(agents))
    elif asked.what == "watch":
        asyncio.run(watch(agents, polls=asked.polls))
    else:
        size = {"leases": asked.leases, "meters": asked.meters}
        asyncio.run(readings(agents, **size, batches=asked.batches, at_once=asked.at_once))


if __name__ == "__main__":
    main()
