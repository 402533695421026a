"""A running Stripe stand-in for tests, and a person at its pages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from interchain_site.testing.servers import free_port, running

WEBHOOK_SECRET = "whsec_tests"
GOOD_CARD = "4242424242424242"


@dataclass
class StandIn:
    """The stand-in's address, and what a person can do on its pages."""

    url: str

    def pay(self, page: str, card: str = GOOD_CARD, **fields: str) -> httpx.Response:
        """Type a card on a payment page and send it; returns the answer, redirects not followed."""
        form = {"number": card, "expiry": "12 / 40", "cvc": "123", "name": "A Person", **fields}
        return httpx.post(page, data=form, timeout=10)

    def act(self, action: str, object_id: str, **fields: str) -> httpx.Response:
        """Press a button of the dashboard: refund, fail-refund, dispute, win, lose, resend."""
        return httpx.post(f"{self.url}/dashboard/{action}/{object_id}", data=fields, timeout=10)

    def get(self, path: str) -> Any:
        """Read an object over the API."""
        return httpx.get(f"{self.url}/v1/{path}", headers={"Authorization": "Bearer sk_test_tests"}, timeout=10).json()

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """Return the events so far, oldest first."""
        found = reversed(self.get("events?limit=1000")["data"])
        return [event for event in found if kind in ("", event["type"])]


@contextmanager
def stand_in(state: Path, *options: str, port: int | None = None) -> Iterator[StandIn]:
    """Run a stand-in keeping its state in a file; `options` are more words of its command line."""
    port = port or free_port()
    command = [sys.executable, "-m", "billing.stripe.standin", "--port", str(port), "--state", str(state)]
    command += ["--webhook-secret", WEBHOOK_SECRET, "--retry-seconds", "0.1", "--dispute-after-seconds", "0", *options]
    with running(command, port=port, log=state.parent / "standin.log"):
        yield StandIn(f"http://127.0.0.1:{port}")
