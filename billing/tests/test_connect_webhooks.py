"""Webhooks about connected accounts: with either secret, once, in any order; what is nobody's is left alone."""

from __future__ import annotations

import itertools

import pytest

from billing.models import CashOut, ConnectAccount, StripeEvent
from billing.services import connect_accounts, sweeps
from billing.states import CashOutState
from billing.stripe import connect
from billing.tests.cashing_out import NTC, advance, confirmed, earn, fund, link_bank, money_of
from billing.tests.test_webhooks import deliver, work


@pytest.fixture
def events(stripe):
    """Return a function giving the events this test has caused, oldest first."""
    seen = {event["id"] for event in stripe.events()}
    return lambda kind="": [event for event in stripe.events(kind) if event["id"] not in seen]


@pytest.fixture
def ready(stripe, stocked_desk, cast, now):
    earn(cast.owner, 10 * NTC, now)
    fund(stripe, 10_000, now)
    return link_bank(stripe, cast.owner, now)


def test_the_account_follows_stripe(client, stripe, events, cast, now):
    stripe.onboard(connect_accounts.start_onboarding(user=cast.owner, country="US", now=now))
    assert not ConnectAccount.objects.get().payable
    for event in events("account.updated") * 2:
        assert deliver(client, event).status_code == 200
    work(now)
    account = ConnectAccount.objects.get()
    assert (account.payable, account.bank) == (True, "STRIPE TEST BANK ····6789")


@pytest.mark.parametrize("secret", ["whsec_tests", "whsec_connect"])
def test_both_endpoints_may_have_their_own_secret(client, ready, stripe, events, settings, secret):
    settings.STRIPE_CONNECT_WEBHOOK_SECRET = "whsec_connect"
    stripe.act("reject", ready.stripe_id)
    [event] = events("account.updated")[-1:]
    assert deliver(client, event, secret=secret).status_code == 200
    assert deliver(client, event, secret="whsec_other").status_code == 400


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_any_order_comes_to_the_same(client, ready, stripe, events, cast, now, order):
    """The transfer, the payout and its failure, heard of in every order."""
    cash_out = advance(confirmed(cast.owner, now, cents=1000), now)
    stripe.act("bounce", cash_out.payout_id)
    kinds = ("transfer.created", "payout.created", "payout.failed")
    by_kind = {event["type"]: event for event in events()}
    for position in order:
        deliver(client, by_kind[kinds[position]])
        work(now)
    cash_out.refresh_from_db()
    assert (cash_out.state, money_of(cast.owner).earned) == (CashOutState.FAILED, 10)


def test_a_payout_is_found_by_its_webhook_though_its_answer_was_lost(client, ready, stripe, events, cast, now):
    cash_out = advance(confirmed(cast.owner, now, cents=1000), now)
    payout = cash_out.payout_id
    CashOut.objects.update(state=CashOutState.TRANSFERRED, payout_id=None)
    stripe.act("arrive", payout)
    deliver(client, events("payout.paid")[-1])
    work(now)
    cash_out.refresh_from_db()
    assert (cash_out.state, cash_out.payout_id) == (CashOutState.PAID, payout)


def test_the_company_moving_its_own_dollars_is_followed(client, stripe, stocked_desk, events, now):
    from billing import queries

    stripe.act("top-up", "platform", amount="12")
    before = queries.platform_balance("company_usd", "USD")
    deliver(client, events("topup.succeeded")[-1])
    work(now)
    assert queries.platform_balance("company_usd", "USD") - before >= 1200
    assert not StripeEvent.objects.filter(processed_at=None).exists()


def test_what_is_nobodys_is_left_alone(client, stripe, stocked_desk, events, now):
    """Another account at the same Stripe, with a transfer and a payout we never made."""
    account = connect.create_account(reference=f"somebody:{now.timestamp()}", email="x@example.com", country="US")
    stripe.onboard(connect.onboarding_url(account_id=account.id, return_url="http://x", refresh_url="http://x"))
    stripe.act("top-up", "platform", amount="10")
    connect.create_transfer(group="theirs", cents=500, destination=account.id, idempotency_key=f"t{account.id}")
    connect.create_payout(account_id=account.id, reference="theirs", cents=500, idempotency_key=f"p{account.id}")
    for event in events():
        deliver(client, event)
    work(now)
    assert not StripeEvent.objects.filter(processed_at=None).exists()
    assert not CashOut.objects.exists()


def test_while_stripe_is_down_the_event_waits_for_the_sweep(client, ready, stripe, events, cast, now, settings):
    from datetime import timedelta

    from billing.stripe.client import StripeUnavailable

    cash_out = advance(confirmed(cast.owner, now, cents=1000), now)
    stripe.act("arrive", cash_out.payout_id)
    deliver(client, events("payout.paid")[-1])
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    with pytest.raises(StripeUnavailable):
        work(now)
    settings.STRIPE_API_BASE = stripe.url
    sweeps.sweep_payments(now=now + timedelta(seconds=30))
    cash_out.refresh_from_db()
    assert cash_out.state == CashOutState.PAID
