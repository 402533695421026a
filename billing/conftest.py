"""Fixtures of billing's tests: a stand-in for Stripe, a stocked desk, a buyer who pays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from billing.models import Payment
from billing.services import accounts, desk, ledger, topups
from billing.services.ledger import Line, Posting
from interchain_site.testing.stripe import WEBHOOK_SECRET, StandIn, stand_in

STOCK = 1_000 * 10**9
RATE = Decimal("2.5")


@pytest.fixture(scope="session")
def _stand_in(tmp_path_factory) -> Iterator[StandIn]:
    with stand_in(tmp_path_factory.mktemp("stripe") / "state.sqlite3") as running:
        yield running


@pytest.fixture
def stripe(_stand_in: StandIn, settings) -> StandIn:
    """The stand-in, with the site pointed at it. It sends no webhooks; tests bring them."""
    settings.STRIPE_API_BASE = _stand_in.url
    settings.STRIPE_SECRET_KEY = "sk_test_tests"
    settings.STRIPE_WEBHOOK_SECRET = WEBHOOK_SECRET
    return _stand_in


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def stocked_desk(cast, now) -> None:
    """A desk that holds 1,000 NTC and sells them at 2.50 USD."""
    lines = (
        Line(accounts.platform_account("escrow"), -STOCK),
        Line(accounts.platform_account("desk_inventory"), STOCK),
    )
    ledger.post(postings=[Posting("genesis", "genesis", lines, now)], now=now)
    desk.set_rate(rate=RATE, by=cast.staff, now=now - timedelta(days=1))


@pytest.fixture
def checkout(stripe, stocked_desk, cast, now) -> Callable[..., Payment]:
    """Return a function that opens a checkout for the buyer over 10 USD (4 NTC)."""

    def start(cents: int = 1000) -> Payment:
        quote = desk.quote(user=cast.buyer, cents=cents, now=now)
        return topups.start_checkout(quote_id=quote.pk, user=cast.buyer, now=now)

    return start


@pytest.fixture
def bought(checkout, stripe, now) -> Callable[..., Payment]:
    """Return a function that buys with a card and has the payment credited."""

    def buy(cents: int = 1000, card: str = "4242424242424242") -> Payment:
        payment = checkout(cents)
        assert stripe.pay(payment.session_url, card).status_code == 303
        return topups.sync_payment(payment_id=payment.pk, now=now)

    return buy
