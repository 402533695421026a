"""Sends the events to the webhook, signed as Stripe signs, again and again with growing pauses until it answers 2xx."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import time

import httpx

from billing.stripe.standin.engine import Engine

LONGEST_PAUSE_SECONDS = 60
GIVE_UP_ATTEMPTS = 500


def signature(payload: bytes, secret: str, at: int) -> str:
    """Return the `Stripe-Signature` header for a payload."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


class Courier:
    """The stand-in's background loop: what is due happens, what is undelivered goes out."""

    def __init__(self, engine: Engine, *, url: str, secret: str, retry_seconds: float) -> None:
        self.engine, self.url, self.secret, self.retry_seconds = engine, url, secret, retry_seconds

    async def run(self) -> None:
        """Loop until cancelled; a failure of one round does not stop the next."""
        async with httpx.AsyncClient(timeout=10) as client:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    await self.round(client)
                await asyncio.sleep(0.05)

    async def round(self, client: httpx.AsyncClient) -> None:
        with self.engine.store.transaction():
            self.engine.run_due(time.time())
        if self.url:
            for event_id, attempts in self.engine.store.deliveries_due(time.time()):
                await self.send(client, event_id, attempts)

    async def send(self, client: httpx.AsyncClient, event_id: str, attempts: int) -> None:
        payload = json.dumps(self.engine.store.get(event_id)).encode()
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature(payload, self.secret, int(time.time())),
            "User-Agent": "Stripe/1.0 (stand-in)",
        }
        try:
            answer = await client.post(self.url, content=payload, headers=headers)
            delivered, note = answer.is_success, f"HTTP {answer.status_code}"
        except httpx.HTTPError as error:
            delivered, note = False, type(error).__name__
        pause = min(self.retry_seconds * 2 ** min(attempts, 20), LONGEST_PAUSE_SECONDS)
        gave_up = attempts + 1 >= GIVE_UP_ATTEMPTS
        self.engine.store.note_delivery(
            event_id, attempts=attempts + 1, delivered=delivered or gave_up, next_at=time.time() + pause, note=note
        )
