"""Threads that stay, each with its connection to the database, for what devices ask of the web process again and again."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog
from django.db import DatabaseError, InterfaceError, close_old_connections, connection

from nodes.errors import Busy

THREADS = 8
"""Each waits for the database most of the time, and holds one connection to it."""
MOST_WAITING = 512
"""Calls taken and not answered; one more is asked to come again, as its device does, later each time."""
RENEW_SECONDS = 60
"""How old a thread's connection is looked at again, as Django would at each request."""

T = TypeVar("T")
log = structlog.get_logger()
_mine = threading.local()


class Calls:
    """The threads, and how many calls wait for one."""

    def __init__(self, threads: int = THREADS, most_waiting: int = MOST_WAITING) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="frequent")
        self._threads, self._most, self._waiting = threads, most_waiting, 0

    async def run(self, call: Callable[[], T]) -> T:
        """Run a call in a thread.

        Raises:
            Busy: too many wait already, or the database went away; the next call gets a fresh connection.
        """
        if self._waiting >= self._most:
            raise Busy
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, _with_connection, call)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let go of the threads, each of which lets go of its connection."""
        all_there = threading.Barrier(self._threads)  # so that no thread takes the place of another

        def leave() -> None:
            all_there.wait()
            connection.close()

        for _ in range(self._threads):
            self._pool.submit(leave)
        self._pool.shutdown()


def _with_connection(call: Callable[[], T]) -> T:
    now = time.monotonic()
    if now - getattr(_mine, "looked_at", 0.0) > RENEW_SECONDS:
        close_old_connections()
        _mine.looked_at = now
    try:
        return call()
    except (DatabaseError, InterfaceError) as error:
        log.error("call_lost_its_database", error=str(error))
        connection.close()
        raise Busy from None
