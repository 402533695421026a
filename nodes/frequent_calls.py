"""In front of Django, like the link: readings and desired state, which are nearly all a fleet asks for (bench/fleet).

Django under ASGI makes a thread for each request, and with it a connection to the database: more work than the calls
themselves. Here a few threads stay, each with its connection. What they do, and what they refuse, is what Django's views would
(nodes/api/frequent.py); everything else goes to Django.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import structlog
from django.db import DatabaseError, InterfaceError, close_old_connections, connection
from prometheus_client import Histogram
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, request_response

from interchain_site.core.api import retry_headers
from interchain_site.core.errors import DomainError
from nodes.agent.protocol import DESIRED_PATH, READINGS_PATH
from nodes.api import frequent
from nodes.api.frequent import Answer
from nodes.body_limit import BodyLimit
from nodes.errors import Busy
from nodes.models import Device
from nodes.services import refusals

THREADS = 8
"""Each waits for the database most of the time, and holds one connection to it."""
MOST_WAITING = 512
"""Calls taken and not answered; one more is asked to come again, as its device does, later each time."""
RENEW_SECONDS = 60
"""How old a thread's connection is looked at again, as Django would at each request."""

log = structlog.get_logger()
_mine = threading.local()
seconds = Histogram("nodes_frequent_call_seconds", "From a call's last byte to its answer.", ["call", "status"])


class Calls:
    """The threads, and how many calls wait for one."""

    def __init__(self, threads: int = THREADS, most_waiting: int = MOST_WAITING) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="frequent")
        self._threads, self._most, self._waiting = threads, most_waiting, 0

    async def run(self, call: Callable[[], Answer]) -> Answer:
        """Run a call in a thread. Raises: Busy: too many wait already."""
        if self._waiting >= self._most:
            raise Busy
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
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


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Keep the threads as long as the process serves."""
    app.state.calls = calls = Calls()
    try:
        yield
    finally:
        await asyncio.to_thread(calls.close)


async def _readings(request: Request) -> Response:
    authorization, body = request.headers.get("authorization", ""), await request.body()
    return await _answered(request, authorization, lambda device: frequent.readings(device, body))


async def _desired(request: Request) -> Response:
    authorization, known = request.headers.get("authorization", ""), request.headers.get("if-none-match", "")
    return await _answered(request, authorization, lambda device: frequent.desired(device, known=known))


async def _answered(request: Request, authorization: str, do: Callable[[Device], Answer]) -> Response:
    calls: Calls = request.app.state.calls
    began, path = time.perf_counter(), request.url.path
    try:
        answer = await calls.run(lambda: _in_thread(authorization, path, do))
    except DomainError as error:
        response: Response = JSONResponse(error.as_dict(), error.status, retry_headers(error.status))
    else:
        response = Response(answer.body, answer.status, answer.headers)
    seconds.labels(path.rpartition("/")[2], response.status_code).observe(time.perf_counter() - began)
    return response


def _in_thread(authorization: str, path: str, do: Callable[[Device], Answer]) -> Answer:
    """Find out who calls and do it; a refusal leaves its trace, a database that went away a fresh connection next time."""
    device = None
    try:
        _look_at_connection()
        device = frequent.caller(authorization)
        return do(device)
    except DomainError as error:
        if error.status < 500:
            refusals.record(error, device=device, path=path)
        raise
    except (DatabaseError, InterfaceError) as error:
        log.error("frequent_call_failed", path=path, error=str(error))
        connection.close()
        raise Busy from None


def _look_at_connection() -> None:
    now = time.monotonic()
    if now - getattr(_mine, "looked_at", 0.0) > RENEW_SECONDS:
        close_old_connections()
        _mine.looked_at = now


def _limited(path: str, method: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
    return Route(path, BodyLimit(request_response(endpoint)), methods=[method])


routes = [_limited(READINGS_PATH, "POST", _readings), _limited(DESIRED_PATH, "GET", _desired)]
