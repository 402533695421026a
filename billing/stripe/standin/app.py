"""Puts the stand-in together: one Starlette app with the API, the pages and the courier."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse

from billing.stripe.standin.api import Api
from billing.stripe.standin.delivery import Courier
from billing.stripe.standin.engine import Engine
from billing.stripe.standin.moves import Moves
from billing.stripe.standin.onboarding import Onboarding
from billing.stripe.standin.people import People
from billing.stripe.standin.store import Store


def make_app(
    *,
    state: Path | str,
    webhook_url: str,
    webhook_secret: str,
    retry_seconds: float = 1,
    dispute_after_seconds: float = 5,
    payout_after_seconds: float = 5,
    available_after_seconds: float = 0,
) -> Starlette:
    """Return the app.

    Args:
        state: the SQLite file everything is kept in.
        webhook_url: where events go; empty sends none.
        retry_seconds: the first pause before an unanswered event is sent again; doubles up to a minute.
        dispute_after_seconds: how long after paying the disputing test cards dispute.
        payout_after_seconds: how long a payout takes to its bank, and a slow verification.
        available_after_seconds: how long card money is pending before it can be sent on.
    """
    engine = Engine(
        Store(state), dispute_after_seconds=dispute_after_seconds, available_after_seconds=available_after_seconds
    )
    moves = Moves(engine, payout_after_seconds=payout_after_seconds)
    courier = Courier(engine, url=webhook_url, secret=webhook_secret, retry_seconds=retry_seconds)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        loop = asyncio.create_task(courier.run())
        yield
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop

    async def not_found(request: Request, error: Exception) -> JSONResponse:
        message = f"Unrecognized request URL ({request.method}: {request.url.path})."
        return JSONResponse({"error": {"type": "invalid_request_error", "message": message}}, 404)

    routes = [*Api(engine, moves).routes(), *People(engine, moves).routes(), *Onboarding(moves).routes()]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: not_found})
