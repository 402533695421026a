"""A local port that leads to wherever an app is served now, and goes on leading there when it moves."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from interchain_connect.records import Record, split
from interchain_connect.resolve import Resolver

log = logging.getLogger("interchain")
CONNECT_SECONDS = 2.0
NEXT_SECONDS = 0.3  # an endpoint that has not answered by then is not waited for before the next is tried
HESITATES_SECONDS = (
    0.7  # and by then it is reported, while it is still waited for; a device by satellite answers in 0.6
)
REFRESH_SECONDS = 15.0
RETRY_SECONDS = 0.5
PATIENCE_SECONDS = 60.0  # how long a caller waits for an app that is nowhere now
SUSPECT_SECONDS = 5.0  # the same endpoint is reported no more often
CHUNK = 64 * 1024


class Proxy:
    """Accepts local connections and joins each to the first endpoint of the succession that answers."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._refreshing: asyncio.Task[Record | None] | None = None
        self._suspected: dict[str, float] = {}
        self._tasks: set[asyncio.Future[Any]] = set()

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Open the local port; the caller closes what is returned."""
        server = await asyncio.start_server(self._caller, host, port)
        self._start(self._keep_fresh())
        return server

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self._refresh()
            await self._resolver.learn_nodes()

    async def _caller(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            found = await self._reach()
            if found is None:
                log.warning("%s is nowhere to be reached now.", self._resolver.name)
                return
            await _join(reader, writer, *found)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Return a connection to the app: tries the succession, and again with each newer record, until patience ends."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up_at:
            record = self._resolver.record
            if record is not None and record.endpoints:
                found = await self._first_of(record.endpoints)
                if found is not None:
                    return found
            await self._refresh()
            newer = self._resolver.record
            if newer is None or record is None or newer.sequence == record.sequence:
                await asyncio.sleep(RETRY_SECONDS)
        return None

    async def _first_of(self, endpoints: tuple[str, ...]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Return the first endpoint's connection that opens; the next is tried as soon as one fails or hesitates, and those of a
        newer record as soon as it is known."""
        trying: dict[asyncio.Task[tuple[asyncio.StreamReader, asyncio.StreamWriter]], str] = {}
        waiting, listed = list(endpoints), set(endpoints)
        try:
            while waiting or trying:
                if waiting:
                    endpoint = waiting.pop(0)
                    trying[asyncio.ensure_future(_open(endpoint))] = endpoint
                pause = NEXT_SECONDS if waiting else HESITATES_SECONDS
                watched: set[asyncio.Future[Any]] = {*trying, *self._under_way()}
                done, _ = await asyncio.wait(watched, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                if not done:  # look for a newer record while they, or the next, are tried
                    for hesitating in () if waiting else trying.values():
                        self._missed(hesitating)
                    self._ask()
                for task in [one for one in trying if one in done]:
                    endpoint = trying.pop(task)
                    if task.exception() is None:
                        return task.result()
                    self._missed(endpoint)
                newer = [one for one in self._endpoints() if one not in listed]
                waiting += newer
                listed.update(newer)
        finally:
            for task, endpoint in trying.items():
                self._start(self._judge(task, endpoint))
        return None

    def _under_way(self) -> set[asyncio.Future[Record | None]]:
        """The question to the nodes that is not answered yet, if there is one."""
        asked = self._refreshing
        return {asked} if asked is not None and not asked.done() else set()

    def _endpoints(self) -> tuple[str, ...]:
        record = self._resolver.record
        return record.endpoints if record is not None else ()

    async def _judge(
        self, task: asyncio.Task[tuple[asyncio.StreamReader, asyncio.StreamWriter]], endpoint: str
    ) -> None:
        """See what became of an endpoint that was overtaken: slow, or gone."""
        try:
            _, writer = await task
            writer.close()
        except OSError:
            self._missed(endpoint)

    def _missed(self, endpoint: str) -> None:
        """An endpoint does not answer: report it, and look for a newer record meanwhile."""
        now = time.monotonic()
        if now - self._suspected.get(endpoint, -SUSPECT_SECONDS) < SUSPECT_SECONDS:
            return
        self._suspected = {known: at for known, at in self._suspected.items() if now - at < SUSPECT_SECONDS}
        self._suspected[endpoint] = now
        log.info("%s does not answer at %s.", self._resolver.name, endpoint)
        self._start(self._resolver.suspect(endpoint))
        self._start(self._refresh())

    async def _refresh(self) -> None:
        await asyncio.shield(self._ask())

    def _ask(self) -> "asyncio.Task[Record | None]":
        """Ask the nodes; callers who want it meanwhile share the answer."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.ensure_future(self._resolver.refresh())
            self._refreshing.add_done_callback(self._done)
        return self._refreshing

    def _start(self, work: "Coroutine[Any, Any, object]") -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("Unexpected: %r", task.exception())


async def _open(endpoint: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(*split(endpoint)), CONNECT_SECONDS)
    except asyncio.TimeoutError:
        raise OSError("not in time") from None
    _notice_death(writer.get_extra_info("socket"))
    return reader, writer


def _notice_death(connection: socket.socket) -> None:
    """Let the kernel end a connection whose other side vanished without a word within about three seconds."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 3000)):
        if hasattr(socket, name):
            with suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    """Carry bytes both ways until both sides have ended, or one broke off."""
    ways = [asyncio.ensure_future(_carry(reader, far_writer)), asyncio.ensure_future(_carry(far_reader, writer))]
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
        for way in done:
            way.result()
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        far_writer.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
