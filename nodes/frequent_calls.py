"""In front of Django, like the link: readings, reports and desired state, which are nearly all a fleet asks for (bench/fleet).

Django under ASGI makes a thread for each request, and with it a connection to the database: more work than the calls
themselves. Here a few threads stay (nodes/calls.py). What they do, and what they refuse, is what Django's views would
(nodes/api/frequent.py); everything else goes to Django.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from prometheus_client import Histogram
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, request_response

from interchain_site.core.api import retry_headers
from interchain_site.core.errors import DomainError
from nodes.agent.protocol import DESIRED_PATH, READINGS_PATH, REPORT_PATH
from nodes.api import frequent
from nodes.api.frequent import Answer
from nodes.body_limit import BodyLimit
from nodes.calls import Calls
from nodes.models import Device
from nodes.services import refusals

seconds = Histogram("nodes_frequent_call_seconds", "From a call's last byte to its answer.", ["call", "status"])


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


async def _report(request: Request) -> Response:
    authorization, body = request.headers.get("authorization", ""), await request.body()
    return await _answered(request, authorization, lambda device: frequent.report(device, body))


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
    """Find out who calls and do it; a refusal leaves its trace."""
    device = None
    try:
        device = frequent.caller(authorization)
        return do(device)
    except DomainError as error:
        if error.status < 500:
            refusals.record(error, device=device, path=path)
        raise


def _limited(path: str, method: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
    return Route(path, BodyLimit(request_response(endpoint)), methods=[method])


routes = [
    _limited(READINGS_PATH, "POST", _readings),
    _limited(REPORT_PATH, "POST", _report),
    _limited(DESIRED_PATH, "GET", _desired),
]
