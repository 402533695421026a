"""Stripe's own books: every fee is booked once, what no webhook told of is picked up, and the ledger ties to the balance."""

from __future__ import annotations

from datetime import timedelta

import pytest

from billing import queries
from billing.models import Dispute, StripeMovement, Transaction
from billing.services import accounts, ledger, reconcile_stripe, stripe_books, topups
from billing.services.ledger import Line, Posting
from billing.stripe import books
from billing.tests.cashing_out import NTC, advance, confirmed, earn, fund, link_bank
from interchain_site.core.models import StaffAlert
from interchain_site.testing.stripe import stand_in


def usd(kind: str) -> int:
    return queries.platform_balance(kind, "USD")


@pytest.fixture
def base(stripe, stocked_desk, now):
    """What Stripe's books held before the test, followed, so that the test sees its own lines only."""
    stripe_books.read(now=now)
    rest = books.balance()
    return {
        "fees": usd("stripe_fees"),
        "clearing": usd("stripe_clearing"),
        "stripe": rest.available_cents + rest.pending_cents,
    }


def ties(base) -> bool:
    """Return whether ledger and Stripe moved by the same cents since `base`."""
    rest = books.balance()
    moved = rest.available_cents + rest.pending_cents - base["stripe"]
    return -(usd("stripe_clearing") - base["clearing"]) == moved


def charge_id(stripe, payment) -> str:
    return stripe.get(f"payment_intents/{payment.payment_intent_id}")["latest_charge"]


def test_the_fee_of_a_card_payment(base, bought, now):
    bought(1000)
    stripe_books.read(now=now)
    assert usd("stripe_fees") - base["fees"] == -59  # 2.9 % and 30 cents
    assert usd("stripe_clearing") - base["clearing"] == -941
    assert ties(base)


def test_every_line_is_booked_once(base, bought, now):
    bought(1000)
    for _ in range(3):
        stripe_books.read(now=now)
    assert usd("stripe_fees") - base["fees"] == -59
    assert stripe_books.read(now=now) == 0


def test_the_fee_of_a_dispute_stays_though_it_is_won(base, bought, stripe, now):
    payment = bought(1000)
    stripe.act("dispute", charge_id(stripe, payment))
    stripe_books.read(now=now)
    assert usd("stripe_fees") - base["fees"] == -59 - 1500
    stripe.act("win", Dispute.objects.get().pk)
    stripe_books.read(now=now)
    assert usd("stripe_fees") - base["fees"] == -59 - 1500
    assert usd("disputed_usd") == 0
    assert ties(base)


def test_a_refund_in_stripes_dashboard_is_found_without_a_webhook(base, bought, stripe, cast, now):
    payment = bought(1000)
    stripe_books.read(now=now)
    stripe.act("refund", charge_id(stripe, payment), amount="2.50")
    stripe_books.read(now=now)
    payment.refresh_from_db()
    assert payment.refunded_cents == 250
    assert queries.available_units(cast.buyer.pk) == 3 * NTC
    assert ties(base)


def test_a_refund_the_bank_sent_back_is_found_too(base, bought, stripe, cast, now):
    payment = topups.refund_payment(payment_id=bought(1000).pk, cents=None, by=cast.staff, now=now)
    [refund] = stripe.get(f"refunds?payment_intent={payment.payment_intent_id}")["data"]
    stripe.act("fail-refund", refund["id"])
    stripe_books.read(now=now)
    assert queries.available_units(cast.buyer.pk) == 4 * NTC
    assert ties(base)


def test_a_dispute_no_webhook_told_of_freezes(base, bought, stripe, cast, now):
    stripe.act("dispute", charge_id(stripe, bought(1000)))
    stripe_books.read(now=now)
    assert queries.balances(cast.buyer.pk).frozen == 4 * NTC
    assert ties(base)


def test_what_the_company_moves_is_its_own(base, stripe, now):
    stripe.act("top-up", "platform", amount="500")
    stripe.act("withdraw", "platform", amount="120")
    before = usd("company_usd")
    stripe_books.read(now=now)
    assert usd("company_usd") - before == 38_000
    assert ties(base)


def test_cash_outs_and_what_comes_back_tie(base, stripe, cast, now):
    earn(cast.owner, 100 * NTC, now)
    stripe.act("top-up", "platform", amount="100")
    stripe_books.read(now=now)
    link_bank(stripe, cast.owner, now)
    first, second = (advance(confirmed(cast.owner, now, cents=cents), now) for cents in (1000, 700))
    assert ties(base)
    stripe.act("arrive", first.payout_id)
    stripe.act("bounce", second.payout_id)
    for row in (first, second):
        advance(row, now)
    stripe_books.read(now=now)
    assert ties(base)


def test_what_is_beside_payments_is_explained(base, bought, stripe, cast, now):
    """Ledger = payments − refunds − disputes + what `beside_payments_cents` says."""
    start = stripe_books.beside_payments_cents()
    bought(1000)
    earn(cast.owner, 100 * NTC, now)
    stripe.act("top-up", "platform", amount="100")
    stripe_books.read(now=now)
    link_bank(stripe, cast.owner, now)
    advance(confirmed(cast.owner, now, cents=2000), now)
    assert stripe_books.beside_payments_cents() - start == -59 + 10_000 - 2000
    assert -(usd("stripe_clearing") - base["clearing"]) == 1000 - 59 + 10_000 - 2000


def test_a_line_that_fails_is_tried_again_and_stops_no_other(base, bought, stripe, cast, now, monkeypatch):
    from billing.stripe import gateway
    from billing.stripe.client import StripeUnavailable

    stripe.act("refund", charge_id(stripe, bought(1000)), amount="2.50")

    def down(*args):
        raise StripeUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(gateway, "reference_of", down)
        stripe_books.read(now=now)
    [waiting] = StripeMovement.objects.filter(followed_at=None)
    assert (waiting.kind, waiting.error) == ("refund", StripeUnavailable.message)
    assert Transaction.objects.filter(kind="stripe_fee").exists()
    stripe_books.read(now=now)
    assert not StripeMovement.objects.filter(followed_at=None).exists()
    assert queries.available_units(cast.buyer.pk) == 3 * NTC


def test_what_we_do_not_know_is_told_to_staff(base, now):
    row = StripeMovement(pk="txn_new", kind="climate_order_purchase", cents=-100, created_at=now, seen_at=now)
    row.save()
    stripe_books.read(now=now)
    assert StaffAlert.objects.standing().filter(code="stripe_movement_unknown", subject="txn_new").exists()


def test_monthly_fees_are_lines_of_their_own(base, now):
    StripeMovement.objects.create(pk="txn_fee", kind="stripe_fee", cents=-25, created_at=now, seen_at=now)
    stripe_books.read(now=now)
    assert usd("stripe_fees") - base["fees"] == -25
    assert usd("stripe_clearing") - base["clearing"] == 25


def test_a_dead_stripe_changes_nothing(base, settings, now):
    from billing.tasks.money import read_stripe_books

    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    read_stripe_books()
    assert usd("stripe_fees") == base["fees"]


def test_it_goes_on_where_it_stopped(base, stripe, now):
    stripe.act("top-up", "platform", amount="1")
    stripe_books.read(now=now)
    count = StripeMovement.objects.count()
    stripe.act("top-up", "platform", amount="1")
    assert stripe_books.read(now=now + timedelta(hours=2)) == 1
    assert StripeMovement.objects.count() == count + 1


def test_the_helper_of_these_tests_agrees_with_stripe(base, stripe, now):
    fund(stripe, 1_000, now)
    assert ties(base)


# --- the check of all books -------------------------------------------------------------------------------------------


@pytest.fixture
def _stand_in(tmp_path):
    """A Stripe of this test's own, so that its balance is what this test's payments left there."""
    with stand_in(tmp_path / "stripe.sqlite3") as running:
        yield running


def test_the_check_sees_that_stripes_balance_is_the_ledgers(bought, now):
    bought(1000)
    check = reconcile_stripe.balance(now=now)
    assert (check.differences, check.facts) == ([], ["$9.41 at Stripe"])
    assert not reconcile_stripe.ledger_of_payments().differences


def test_the_check_names_dollars_that_are_missing(bought, now):
    bought(1000)
    lines = (
        Line(accounts.platform_account("stripe_clearing", "USD"), -300),
        Line(accounts.platform_account("desk_sales_usd", "USD"), 300),
    )
    ledger.post(postings=[Posting("wrong", "test", lines, now)], now=now)
    assert "under way" in reconcile_stripe.balance(now=now).facts[0]  # it might be: a payment is minutes old
    [words] = reconcile_stripe.balance(now=now + timedelta(hours=1)).differences
    assert words == "Stripe holds $9.41 for us, by the ledger $12.41."
