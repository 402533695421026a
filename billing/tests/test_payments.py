"""Card payments: credited once, refunded and disputed exactly, whatever the order of the news.

Longer than 300 lines because it follows one payment through all its events.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core import mail
from django.urls import reverse

from billing import queries
from billing.errors import CheckoutRefused, DeskOut, PaymentRefused, QuoteExpired
from billing.models import Dispute, Entry, Payment, Transaction
from billing.services import accounts, desk, ledger, payment_postings, receipts, sweeps, topups
from billing.services.ledger import Line, Posting
from billing.signals import balance_credited
from billing.states import PaymentState
from billing.stripe import gateway
from interchain_site.core.errors import Conflict, NotFound

NTC = 10**9


def spend(person, units: int, now) -> None:
    """Have a person spend NTC, as charging does."""
    lines = (
        Line(accounts.user_account(person.pk, "available"), -units),
        Line(accounts.platform_account("commission"), units),
    )
    ledger.post(postings=[Posting(f"spend:{units}:{person.pk}", "test", lines, now)], now=now)


def charge_id(stripe, payment: Payment) -> str:
    return stripe.get(f"payment_intents/{payment.payment_intent_id}")["latest_charge"]


def sync(payment: Payment, now) -> Payment:
    return topups.sync_payment(payment_id=payment.pk, now=now)


def money(person) -> tuple[int, int, int]:
    """Return what a person can spend, has frozen and owes, in whole NTC."""
    found = queries.balances(person.pk)
    return found.available // NTC, found.frozen // NTC, found.owed // NTC


def test_a_purchase_moves_both_currencies(bought, cast, now):
    payment = bought(1000)
    assert (payment.state, payment.units) == (PaymentState.PAID, 4 * NTC)
    assert money(cast.buyer) == (4, 0, 0)
    assert queries.platform_balance("desk_inventory") == 996 * NTC
    assert queries.platform_balance("stripe_clearing", "USD") == -1000
    assert queries.platform_balance("desk_sales_usd", "USD") == 1000


def test_it_is_credited_once_however_often_we_look(bought, cast, now):
    payment = bought()
    for _ in range(3):
        sync(payment, now)
    assert money(cast.buyer) == (4, 0, 0)
    assert Transaction.objects.filter(kind="ntc_purchase").count() == 1


def test_an_unpaid_checkout_credits_nothing(checkout, stripe, cast, now):
    payment = checkout()
    assert stripe.pay(payment.session_url, "4000000000000002").status_code == 402
    assert sync(payment, now).state == PaymentState.OPEN
    assert money(cast.buyer) == (0, 0, 0)


def test_one_person_cannot_keep_the_stock_from_the_others(checkout, stripe, cast, now):
    opened = [checkout(1000) for _ in range(topups.UNPAID_AT_MOST)]
    with pytest.raises(CheckoutRefused):
        checkout(1000)
    assert topups.start_checkout(quote_id=opened[0].quote_id, user=cast.buyer, now=now) == opened[0]
    stripe.pay(opened[0].session_url)
    sync(opened[0], now)
    assert checkout(1000).state == PaymentState.OPEN


def test_the_same_quote_opens_one_checkout(checkout, stripe, cast, now):
    payment = checkout()
    again = topups.start_checkout(quote_id=payment.quote_id, user=cast.buyer, now=now)
    assert (again.pk, again.session_url) == (payment.pk, payment.session_url)


def test_a_checkout_whose_answer_was_lost_is_found_again(checkout, stripe, cast, now):
    """The process died after Stripe answered and before the row was saved: the same call gives the same session."""
    payment = checkout()
    Payment.objects.filter(pk=payment.pk).update(state="created", session_id=None, session_url="")
    again = topups.start_checkout(quote_id=payment.quote_id, user=cast.buyer, now=now)
    assert again.session_id == payment.session_id


def test_a_quote_is_one_persons(checkout, cast, now):
    checkout()
    quote = desk.quote(user=cast.buyer, cents=500, now=now)
    with pytest.raises(NotFound):
        topups.start_checkout(quote_id=quote.pk, user=cast.stranger, now=now)


def test_a_quote_ends(stripe, stocked_desk, cast, now, settings):
    quote = desk.quote(user=cast.buyer, cents=1000, now=now)
    late = now + timedelta(seconds=settings.QUOTE_LOCK_SECONDS)
    with pytest.raises(QuoteExpired):
        topups.start_checkout(quote_id=quote.pk, user=cast.buyer, now=late)


def test_the_price_is_locked_though_the_rate_moves(stripe, stocked_desk, cast, now):
    quote = desk.quote(user=cast.buyer, cents=1000, now=now)
    desk.set_rate(rate=Decimal(5), by=cast.staff, now=now)
    payment = topups.start_checkout(quote_id=quote.pk, user=cast.buyer, now=now + timedelta(minutes=5))
    assert payment.units == 4 * NTC
    assert desk.price(cents=1000, now=now + timedelta(minutes=5)).units == 2 * NTC


def test_open_checkouts_keep_their_ntc(checkout, stripe, cast, now):
    checkout(cents=100_000)  # 400 of 1,000
    assert desk.stock_units() == 600 * NTC
    with pytest.raises(DeskOut, match=r"600\.00 NTC left"):
        desk.quote(user=cast.buyer, cents=200_000, now=now)


def test_two_quotes_of_the_last_ntc_open_one_checkout(stripe, stocked_desk, cast, now):
    quotes = [desk.quote(user=person, cents=200_000, now=now) for person in (cast.buyer, cast.publisher)]
    topups.start_checkout(quote_id=quotes[0].pk, user=cast.buyer, now=now)
    with pytest.raises(DeskOut):
        topups.start_checkout(quote_id=quotes[1].pk, user=cast.publisher, now=now)


def test_an_expired_checkout_frees_its_ntc(checkout, stripe, now, settings):
    payment = checkout()
    late = now + timedelta(seconds=settings.QUOTE_LOCK_SECONDS + 1)
    assert sweeps.sweep_payments(now=late) == 1
    payment.refresh_from_db()
    assert payment.state == PaymentState.EXPIRED
    assert desk.stock_units() == 1000 * NTC
    assert stripe.pay(payment.session_url).status_code == 410


def test_paid_in_the_last_moment_still_counts(checkout, stripe, cast, now, settings):
    payment = checkout()
    stripe.pay(payment.session_url)
    topups.expire_unpaid(payment_id=payment.pk, now=now + timedelta(hours=1))
    assert money(cast.buyer) == (4, 0, 0)


def test_a_checkout_that_never_reached_stripe_expires(stripe, stocked_desk, cast, now):
    quote = desk.quote(user=cast.buyer, cents=1000, now=now)
    payment = topups._reserve(quote_id=quote.pk, user=cast.buyer, now=now)
    assert desk.stock_units() == 996 * NTC
    sweeps.sweep_payments(now=now + timedelta(hours=1))
    payment.refresh_from_db()
    assert payment.state == PaymentState.EXPIRED


def test_the_sweep_finds_a_payment_whose_webhook_was_lost(checkout, stripe, cast, now):
    stripe.pay(checkout().session_url)
    sweeps.sweep_payments(now=now + timedelta(seconds=61))
    assert money(cast.buyer) == (4, 0, 0)


def test_another_amount_is_never_credited(checkout, stripe, cast, now):
    payment = checkout()
    stripe.pay(payment.session_url)
    Payment.objects.filter(pk=payment.pk).update(cents=100_000)
    with pytest.raises(Conflict, match="another amount"):
        sync(payment, now)
    assert money(cast.buyer) == (0, 0, 0)


def test_stock_taken_away_meanwhile_is_credited_when_it_is_back(checkout, stripe, cast, now):
    payment = checkout()
    stripe.pay(payment.session_url)
    stock, escrow = accounts.platform_account("desk_inventory"), accounts.platform_account("escrow")
    away = Posting("away", "test", (Line(stock, -1000 * NTC), Line(escrow, 1000 * NTC)), now)
    [pk] = ledger.post(postings=[away], now=now)
    payment = sync(payment, now)
    assert (payment.state, payment.credited_at) == (PaymentState.PAID, None)
    ledger.reverse(transaction_id=pk, key="back", by=None, memo="")
    sweeps.sweep_payments(now=now + timedelta(minutes=2))
    assert money(cast.buyer) == (4, 0, 0)


def test_a_full_refund_reverses_exactly(bought, stripe, cast, now):
    payment = topups.refund_payment(payment_id=bought().pk, cents=None, by=cast.staff, now=now)
    assert payment.state == PaymentState.REFUNDED
    assert money(cast.buyer) == (0, 0, 0)
    assert queries.platform_balance("desk_inventory") == 1000 * NTC
    assert queries.platform_balance("stripe_clearing", "USD") == 0
    assert queries.platform_balance("desk_sales_usd", "USD") == 0


def test_partial_refunds_add_up_to_the_last_unit(bought, stripe, cast, now):
    payment = bought(1001)  # 4.004 NTC
    for cents in (333, 333, 335):
        payment = topups.refund_payment(payment_id=payment.pk, cents=cents, by=cast.staff, now=now)
    assert (payment.refunded_cents, payment.refunded_units) == (1001, payment.units)
    assert queries.balances(cast.buyer.pk).available == 0


def test_roundings_of_many_refunds_do_not_add_up(checkout, stripe, cast, now):
    """Seven sevenths of 33.366666667 NTC: each rounds up alone, together they are exactly what was sold."""
    desk.set_rate(rate=Decimal("0.3"), by=cast.staff, now=now)
    payment = checkout(1001)
    stripe.pay(payment.session_url)
    for _ in range(7):
        payment = topups.refund_payment(payment_id=payment.pk, cents=143, by=cast.staff, now=now)
    assert payment.refunded_units == payment.units == 33_366_666_667
    assert queries.balances(cast.buyer.pk) == queries.Balances()


def test_a_status_stripe_invents_later_changes_no_open_dispute(bought, stripe, cast, now):
    payment = bought()
    stripe.act("dispute", charge_id(stripe, payment))
    payment = sync(payment, now)
    assert not payment_postings.apply_dispute(payment, Dispute.objects.get(), state="seen", now=now)
    assert money(cast.buyer) == (0, 4, 0)


def test_no_more_than_what_is_left_is_refunded(bought, cast, now):
    payment = bought()
    for cents in (1001, 0, -5):
        with pytest.raises(PaymentRefused):
            topups.refund_payment(payment_id=payment.pk, cents=cents, by=cast.staff, now=now)
    topups.refund_payment(payment_id=payment.pk, cents=None, by=cast.staff, now=now)
    with pytest.raises(PaymentRefused):
        topups.refund_payment(payment_id=payment.pk, cents=None, by=cast.staff, now=now)


def test_a_refund_of_spent_ntc_leaves_a_debt_that_the_next_purchase_repays(bought, checkout, stripe, cast, now):
    payment = bought()
    spend(cast.buyer, 3 * NTC, now)
    topups.refund_payment(payment_id=payment.pk, cents=None, by=cast.staff, now=now)
    assert money(cast.buyer) == (0, 0, 3)
    assert queries.platform_balance("desk_inventory") == 1000 * NTC
    bought(1000)
    assert money(cast.buyer) == (1, 0, 0)


def test_a_refund_that_comes_back_is_credited_again(bought, stripe, cast, now):
    payment = topups.refund_payment(payment_id=bought().pk, cents=None, by=cast.staff, now=now)
    [refund] = stripe.get(f"refunds?payment_intent={payment.payment_intent_id}")["data"]
    stripe.act("fail-refund", refund["id"])
    payment = sync(payment, now)
    assert (payment.state, payment.refunded_cents, money(cast.buyer)) == (PaymentState.PAID, 0, (4, 0, 0))


@pytest.mark.parametrize(("spent", "while_open"), [(0, (0, 4, 0)), (3, (0, 4, 3))], ids=["unspent", "spent"])
def test_a_dispute_freezes_and_a_lost_one_reverses(bought, stripe, cast, now, spent, while_open):
    payment = bought()
    if spent:
        spend(cast.buyer, spent * NTC, now)
    stripe.act("dispute", charge_id(stripe, payment))
    sync(payment, now)
    assert money(cast.buyer) == while_open
    assert queries.platform_balance("stripe_clearing", "USD") == 0
    stripe.act("lose", Dispute.objects.get().pk)
    sync(payment, now)
    assert money(cast.buyer) == (0, 0, spent)
    assert queries.platform_balance("desk_inventory") == 1000 * NTC
    assert queries.platform_balance("desk_sales_usd", "USD") == 0
    assert queries.platform_balance("disputed_usd", "USD") == 0


def test_a_won_dispute_gives_everything_back(bought, stripe, cast, now):
    payment = bought()
    spend(cast.buyer, 3 * NTC, now)
    stripe.act("dispute", charge_id(stripe, payment))
    sync(payment, now)
    stripe.act("win", Dispute.objects.get().pk)
    for _ in range(2):
        sync(payment, now)
    assert money(cast.buyer) == (1, 0, 0)
    assert queries.platform_balance("stripe_clearing", "USD") == -1000
    assert queries.platform_balance("disputed_usd", "USD") == 0


def test_an_inquiry_freezes_nothing(bought, stripe, cast, now):
    payment = bought(card="4000000000001976")
    for _ in range(50):
        payment = sync(payment, now)
        if Dispute.objects.exists():
            break
    assert money(cast.buyer) == (4, 0, 0)
    stripe.act("lose", Dispute.objects.get().pk)
    sync(payment, now)
    assert money(cast.buyer) == (4, 0, 0)


def test_a_dispute_after_a_partial_refund_takes_only_the_rest(bought, stripe, cast, now):
    payment = topups.refund_payment(payment_id=bought().pk, cents=250, by=cast.staff, now=now)
    stripe.act("dispute", charge_id(stripe, payment))
    sync(payment, now)
    assert money(cast.buyer) == (0, 3, 0)
    stripe.act("lose", Dispute.objects.get().pk)
    sync(payment, now)
    assert (money(cast.buyer), queries.platform_balance("desk_inventory")) == ((0, 0, 0), 1000 * NTC)
    assert queries.platform_balance("desk_sales_usd", "USD") == 0


def test_everything_heard_at_once_comes_to_the_same(checkout, stripe, cast, now):
    """Paid, disputed and lost before we looked once."""
    payment = checkout()
    stripe.pay(payment.session_url)
    session = stripe.get(f"checkout/sessions/{payment.session_id}")
    charge = stripe.get(f"payment_intents/{session['payment_intent']}")["latest_charge"]
    stripe.act("dispute", charge)
    [dispute] = stripe.get(f"disputes?payment_intent={session['payment_intent']}")["data"]
    stripe.act("lose", dispute["id"])
    sync(payment, now)
    assert money(cast.buyer) == (0, 0, 0)
    assert queries.platform_balance("desk_inventory") == 1000 * NTC


def test_old_news_is_read_again(bought, stripe, cast, now, monkeypatch):
    """A slow reader must not undo what a faster one wrote: its answer is older than the row."""
    payment = bought()
    read, calls = gateway.read_checkout, []

    def slow(session_id):
        found = read(session_id)
        calls.append(session_id)
        if len(calls) == 1:  # meanwhile somebody else refunds and writes it down
            topups.refund_payment(payment_id=payment.pk, cents=500, by=cast.staff, now=now)
        return found

    monkeypatch.setattr(gateway, "read_checkout", slow)
    after = sync(payment, now)
    assert after.refunded_cents == 500
    assert queries.balances(cast.buyer.pk).available == 2 * NTC


def test_earnings_free_to_leave_are_taken_before_a_debt_is_written(bought, cast, now):
    payment = bought()
    spend(cast.buyer, 4 * NTC, now)
    earned = accounts.user_account(cast.buyer.pk, "earnings_available")
    lines = (Line(accounts.platform_account("commission"), -3 * NTC), Line(earned, 3 * NTC))
    ledger.post(postings=[Posting("earned", "test", lines, now)], now=now)
    topups.refund_payment(payment_id=payment.pk, cents=None, by=cast.staff, now=now)
    found = queries.balances(cast.buyer.pk)
    assert (found.earnings_available, found.owed) == (0, NTC)


def test_apps_are_told_when_the_balance_grows(bought, cast, django_capture_on_commit_callbacks):
    told = []
    balance_credited.connect(lambda user_id, **_: told.append(user_id), weak=False, dispatch_uid="test")
    with django_capture_on_commit_callbacks(execute=True):
        bought()
    balance_credited.disconnect(dispatch_uid="test")
    assert told == [cast.buyer.pk]


def test_one_receipt(bought, cast, now):
    payment = bought()
    assert [receipts.send_receipt(payment_id=payment.pk, now=now) for _ in range(2)] == [True, False]
    [message] = mail.outbox
    assert message.to == [cast.buyer.email]
    assert message.subject == "Interchain: receipt for 4.00 NTC"
    assert "$10.00" in message.body
    assert "$2.50 per NTC" in message.body
    assert reverse("payment_detail", args=[payment.pk]) in message.body


def test_the_sweep_sends_a_receipt_the_queue_lost(bought, now):
    bought()
    sweeps.sweep_payments(now=now)
    assert len(mail.outbox) == 1


def test_all_of_it_sums_to_zero(bought, stripe, cast, now):
    payment = bought()
    spend(cast.buyer, NTC, now)
    topups.refund_payment(payment_id=payment.pk, cents=400, by=cast.staff, now=now)
    by_currency: dict[str, int] = {}
    for entry in Entry.objects.select_related("account"):
        by_currency[entry.account.currency] = by_currency.get(entry.account.currency, 0) + entry.amount
    assert by_currency == {"NTC": 0, "USD": 0}
