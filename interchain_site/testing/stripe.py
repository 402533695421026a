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
GOOD_BANK = "000123456789"


@dataclass
class StandIn:
    """The stand-in's address, and what a person can do on its pages."""

    url: str

    def pay(self, page: str, card: str = GOOD_CARD, **fields: str) -> httpx.Response:
        """Type a card on a payment page and send it; returns the answer, redirects not followed."""
        form = {"number": card, "expiry": "12 / 40", "cvc": "123", "name": "A Person", **fields}
        return httpx.post(page, data=form, timeout=10)

    def act(self, action: str, object_id: str, **fields: str) -> httpx.Response:
        """Press a button of the dashboard: refund, fail-refund, dispute, win, lose, resend; arrive, bounce, top-up, withdraw."""
        return httpx.post(f"{self.url}/dashboard/{action}/{object_id}", data=fields, timeout=10)

    def get(self, path: str, account: str = "") -> Any:
        """Read an object over the API, as the platform or for a connected account."""
        headers = {"Authorization": "Bearer sk_test_tests"} | ({"Stripe-Account": account} if account else {})
        return httpx.get(f"{self.url}/v1/{path}", headers=headers, timeout=10).json()

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """Return the events so far, oldest first."""
        found: list[dict[str, Any]] = []
        while True:
            after = f"&starting_after={found[-1]['id']}" if found else ""
            page = self.get(f"events?limit=100{after}")
            found += page["data"]
            if not page["has_more"]:
                return [event for event in reversed(found) if kind in ("", event["type"])]

    def onboard(self, page: str, number: str = GOOD_BANK, **fields: str) -> httpx.Response:
        """Open an onboarding page, type bank details and send them; returns the answer, redirects not followed."""
        opened = httpx.get(page, timeout=10)
        if opened.is_redirect:  # used up
            return opened
        opened.raise_for_status()
        form = {"country": "US", "name": "An Owner", "born": "1990-01-31", "ssn": "0000", "routing": "110000000"}
        return httpx.post(page, data={**form, "number": number, "answer": "agree", **fields}, timeout=10)


@contextmanager
def stand_in(state: Path, *options: str, port: int | None = None) -> Iterator[StandIn]:
    """Run a stand-in keeping its state in a file; `options` are more words of its command line."""
    port = port or free_port()
    command = [sys.executable, "-m", "billing.stripe.standin", "--port", str(port), "--state", str(state)]
    command += ["--webhook-secret", WEBHOOK_SECRET, "--retry-seconds", "0.1", "--dispute-after-seconds", "0"]
    command += ["--payout-after-seconds", "86400", *options]  # tests let payouts arrive by hand
    with running(command, port=port, log=state.parent / "standin.log"):
        yield StandIn(f"http://127.0.0.1:{port}")
