"""Cashing out: what is sold, what is paid, who may, and what happens when a bank or Stripe says no.

Longer than 300 lines because it follows a cash-out through everything that can happen to it.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core import mail

from billing import queries
from billing.errors import BankMissing, CashOutRefused, DeskOutOfDollars, QuoteExpired
from billing.models import CashOut, ConnectAccount, Entry
from billing.services import (
    accounts,
    cash_out_mails,
    cash_out_rules,
    cash_out_steps,
    cash_out_sweeps,
    cash_outs,
    confirmations,
    connect_accounts,
    desk,
    ledger,
    reconcile,
    topups,
)
from billing.services.ledger import Line, Posting
from billing.states import CashOutState
from billing.stripe import connect
from billing.stripe.client import StripeUnavailable
from billing.tests.cashing_out import (
    NTC,
    Money,
    advance,
    change_bank,
    confirmed,
    earn,
    fund,
    link_bank,
    mailed_code,
    money_of,
    stripe_balance,
    stumble,
)
from interchain_site.core.errors import Conflict, Invalid, NotFound
from interchain_site.core.models import StaffAlert

PATIENT = timedelta(seconds=121)  # longer than a worker's claim


@pytest.fixture
def owner(cast):
    return cast.owner


@pytest.fixture
def ready(stripe, stocked_desk, owner, now):
    """An owner with 10 free NTC and a bank; a desk with 100 dollars at 2.50 per NTC."""
    earn(owner, 10 * NTC, now)
    fund(stripe, 10_000, now)
    return link_bank(stripe, owner, now)


def test_the_whole_way(ready, stripe, owner, now):
    before = stripe_balance(stripe)
    cash_out = confirmed(owner, now, cents=1000)
    assert (cash_out.state, cash_out.units, cash_out.rate) == ("reserved", 4 * NTC, Decimal("2.5"))
    assert money_of(owner) == Money(6, 4, 0, 1000, -1000, 1000, 10_000)
    cash_out = advance(cash_out, now)
    assert cash_out.state == CashOutState.ON_THE_WAY
    assert money_of(owner) == Money(6, 4, 0, 1000, -1000, 0, 9_000)
    assert stripe_balance(stripe) == before - 1000
    assert cash_out.arrives_on > now.date()
    assert advance(cash_out, now).state == CashOutState.ON_THE_WAY  # it is not there yet
    stripe.act("arrive", cash_out.payout_id)
    cash_out = advance(cash_out, now)
    assert (cash_out.state, cash_out.paid_at) == (CashOutState.PAID, now)
    assert money_of(owner) == Money(6, 0, 0, 1004, -1000, 0, 9_000)


def test_by_ntc_instead_of_dollars(ready, owner, now):
    assert confirmed(owner, now, units=3 * NTC).cents == 750


def test_the_price_is_locked_though_the_rate_moves(ready, owner, cast, now):
    asked = cash_outs.ask(user=owner, now=now, units=4 * NTC)
    desk.set_rate(rate=Decimal(1), by=cast.staff, now=now)
    done = cash_outs.confirm(cash_out_id=asked.pk, user=owner, code=mailed_code(), now=now + timedelta(minutes=14))
    assert (done.state, done.cents) == ("reserved", 1000)


def test_a_bank_swapped_after_the_code_was_asked_for_gets_nothing(ready, owner, now):
    """The e-mail named the bank: who holds only the session must not put another in its place."""
    first = confirmed(owner, now, cents=1000)
    asked = cash_outs.ask(user=owner, now=now, cents=1000)
    change_bank(ready, "000987654321")
    connect_accounts.sync(account_id=ready.pk, now=now)
    done = cash_outs.confirm(cash_out_id=asked.pk, user=owner, code=mailed_code(), now=now)
    assert done.state == CashOutState.REFUSED
    assert "changed after you asked" in done.reason
    assert advance(first, now).state == CashOutState.FAILED
    assert money_of(owner) == Money(10, 0, 0, 1000, 0, 0, 10_000)


def test_a_lock_ends(ready, owner, now, settings):
    asked = cash_outs.ask(user=owner, now=now, cents=1000)
    late = now + timedelta(seconds=settings.QUOTE_LOCK_SECONDS)
    with pytest.raises(QuoteExpired):
        cash_outs.confirm(cash_out_id=asked.pk, user=owner, code=mailed_code(), now=late)
    asked.refresh_from_db()
    assert (asked.state, asked.closed_at) == (CashOutState.EXPIRED, late)
    assert money_of(owner).earned == 10


def test_the_sweep_ends_forgotten_ones(ready, owner, now):
    asked = cash_outs.ask(user=owner, now=now, cents=1000)
    cash_out_sweeps.sweep(now=now + timedelta(hours=1))
    asked.refresh_from_db()
    assert asked.state == CashOutState.EXPIRED


def test_the_mail_says_what_is_confirmed(ready, owner, now):
    cash_outs.ask(user=owner, now=now, cents=1000)
    assert "$10.00 to STRIPE TEST BANK ····6789 for 4.00 NTC" in mail.outbox[-1].body


def test_a_wrong_code_moves_nothing(ready, owner, now):
    asked = cash_outs.ask(user=owner, now=now, cents=1000)
    with pytest.raises(confirmations.WrongCode):
        cash_outs.confirm(cash_out_id=asked.pk, user=owner, code="nonsense", now=now)
    asked.refresh_from_db()
    assert (asked.state, money_of(owner).earned) == (CashOutState.ASKED, 10)


def test_without_a_code_nothing_is_reserved(ready, owner, now):
    asked = cash_outs.ask(user=owner, now=now, cents=1000)
    CashOut.objects.update(state=CashOutState.CONFIRMED)
    assert cash_out_steps.reserve(cash_out_id=asked.pk, now=now).state == CashOutState.CONFIRMED
    assert money_of(owner).earned == 10


def test_it_can_be_cancelled_until_it_moves(ready, owner, now):
    asked = cash_outs.ask(user=owner, now=now, cents=1000)
    for _ in range(2):
        assert cash_outs.cancel(cash_out_id=asked.pk, user=owner, now=now).state == CashOutState.CANCELLED
    moved = confirmed(owner, now, cents=1000)
    with pytest.raises(Conflict, match="under way"):
        cash_outs.cancel(cash_out_id=moved.pk, user=owner, now=now)


def test_nobody_else_may(ready, owner, cast, now):
    asked = cash_outs.ask(user=owner, now=now, cents=1000)
    with pytest.raises(NotFound):
        cash_outs.confirm(cash_out_id=asked.pk, user=cast.stranger, code=mailed_code(), now=now)
    with pytest.raises(NotFound):
        cash_outs.cancel(cash_out_id=asked.pk, user=cast.stranger, now=now)


# --- who and how much ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ({"cents": 499}, r"\$5.00 or more"),
        ({"cents": 2501}, r"10.00 NTC of earnings free"),
        ({"units": 11 * NTC}, r"10.00 NTC of earnings free"),
        ({}, "either"),
        ({"cents": 500, "units": NTC}, "either"),
    ],
)
def test_amounts_that_cannot_be(ready, owner, now, amount, words):
    with pytest.raises(Invalid, match=words):
        cash_outs.ask(user=owner, now=now, **amount)


def test_bought_ntc_cannot_be_cashed_out(ready, bought, link, cast, now):
    """A stolen card must not become money in a bank: only earnings leave as dollars."""
    bought(1000)
    link(cast.buyer)
    with pytest.raises(Invalid, match=r"0.00 NTC of earnings free"):
        cash_outs.ask(user=cast.buyer, now=now, cents=500)


@pytest.fixture
def link(stripe, now):
    return lambda person, **fields: link_bank(stripe, person, now, **fields)


def test_without_a_bank_there_is_nowhere_to_pay(stripe, stocked_desk, owner, now):
    earn(owner, 10 * NTC, now)
    with pytest.raises(BankMissing):
        cash_outs.ask(user=owner, now=now, cents=1000)


def test_who_owes_repays_first(ready, owner, now):
    lines = (
        Line(accounts.user_account(owner.pk, "shortfall"), -NTC),
        Line(accounts.platform_account("commission"), NTC),
    )
    ledger.post(postings=[Posting("debt", "test", lines, now)], now=now)
    with pytest.raises(CashOutRefused, match=r"You owe 1.00 NTC"):
        cash_outs.ask(user=owner, now=now, cents=1000)


def test_a_disputed_payment_freezes_cashing_out(ready, bought, checkout, stripe, owner, now):
    quote = desk.quote(user=owner, cents=1000, now=now)
    payment = topups.start_checkout(quote_id=quote.pk, user=owner, now=now)
    stripe.pay(payment.session_url)
    payment = topups.sync_payment(payment_id=payment.pk, now=now)
    asked = cash_outs.ask(user=owner, now=now, cents=1000)
    stripe.act("dispute", stripe.get(f"payment_intents/{payment.payment_intent_id}")["latest_charge"])
    topups.sync_payment(payment_id=payment.pk, now=now)
    with pytest.raises(CashOutRefused, match="disputed"):
        cash_outs.ask(user=owner, now=now, cents=1000)
    done = cash_outs.confirm(cash_out_id=asked.pk, user=owner, code=mailed_code(), now=now)
    assert (done.state, money_of(owner).earned) == (CashOutState.REFUSED, 10)
    assert "disputed" in done.reason


def test_a_dispute_before_the_dollars_left_stops_them(ready, stripe, owner, now, checkout):
    cash_out = confirmed(owner, now, cents=1000)
    quote = desk.quote(user=owner, cents=1000, now=now)
    payment = topups.start_checkout(quote_id=quote.pk, user=owner, now=now)
    stripe.pay(payment.session_url, "4242424242424242")
    payment = topups.sync_payment(payment_id=payment.pk, now=now)
    stripe.act("dispute", stripe.get(f"payment_intents/{payment.payment_intent_id}")["latest_charge"])
    topups.sync_payment(payment_id=payment.pk, now=now)
    cash_out = advance(cash_out, now)
    assert (cash_out.state, cash_out.transfer_id) == (CashOutState.FAILED, None)
    assert money_of(owner) == Money(10, 0, 0, 996, 1000, 0, 10_000)


def test_a_day_has_a_limit(ready, owner, cast, now):
    cash_out_rules.set_rules(paused=False, least_cents=100, daily_cents=1500, reserve_cents=0, by=cast.staff, now=now)
    confirmed(owner, now, cents=1000)
    with pytest.raises(Invalid, match=r"\$5.00 more within 24 hours"):
        cash_outs.ask(user=owner, now=now, cents=501)
    first, second = (cash_outs.ask(user=owner, now=now, cents=400) for _ in range(2))
    codes = [message for message in mail.outbox if "code is" in message.subject][-2:]
    for asked, message in zip((first, second), codes, strict=True):
        code = message.subject.split()[-1]
        cash_outs.confirm(cash_out_id=asked.pk, user=owner, code=code, now=now)
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == (CashOutState.RESERVED, CashOutState.REFUSED)  # the limit holds at the end
    assert cash_outs.ask(user=owner, now=now + timedelta(hours=25), cents=1100)


def test_the_desk_says_when_it_is_out_of_dollars(stripe, stocked_desk, owner, now, cast):
    earn(owner, 100 * NTC, now)
    link_bank(stripe, owner, now)
    with pytest.raises(DeskOutOfDollars, match="no US dollars"):
        cash_outs.ask(user=owner, now=now, cents=1000)
    fund(stripe, 2000, now)
    with pytest.raises(DeskOutOfDollars, match=r"\$20.00 now"):
        cash_outs.ask(user=owner, now=now, cents=2001)
    confirmed(owner, now, cents=1500)
    with pytest.raises(DeskOutOfDollars):  # 5 dollars are left, one cent more is asked for
        cash_outs.ask(user=owner, now=now, cents=501)
    cash_out_rules.set_rules(
        paused=False, least_cents=100, daily_cents=9_999, reserve_cents=450, by=cast.staff, now=now
    )
    with pytest.raises(DeskOutOfDollars):  # staff keep the rest back
        cash_outs.ask(user=owner, now=now, cents=100)


def test_two_cannot_have_the_last_dollars(stripe, stocked_desk, owner, cast, now):
    fund(stripe, 1000, now)
    for person in (owner, cast.publisher):
        earn(person, 10 * NTC, now)
        link_bank(stripe, person, now)
    asked = [
        (person, cash_outs.ask(user=person, now=now, cents=1000), mailed_code()) for person in (owner, cast.publisher)
    ]
    states = [
        cash_outs.confirm(cash_out_id=row.pk, user=person, code=code, now=now).state for person, row, code in asked
    ]
    assert states == [CashOutState.RESERVED, CashOutState.REFUSED]


def test_the_proceeds_of_the_sale_are_not_the_desks(ready, owner, now):
    lines = (
        Line(accounts.platform_account("stripe_clearing", "USD"), -50_000),
        Line(accounts.platform_account("sale_proceeds_usd", "USD"), 50_000),
    )
    ledger.post(postings=[Posting("sold", "test", lines, now)], now=now)
    assert cash_out_rules.desk_cash_cents() == 10_000


def test_staff_can_pause(ready, owner, cast, now):
    asked = cash_outs.ask(user=owner, now=now, cents=1000)
    rules = {"least_cents": 100, "daily_cents": 9_999, "reserve_cents": 0, "by": cast.staff, "now": now}
    cash_out_rules.set_rules(paused=True, **rules)
    with pytest.raises(CashOutRefused, match="paused"):
        cash_outs.ask(user=owner, now=now, cents=1000)
    waits = cash_outs.confirm(cash_out_id=asked.pk, user=owner, code=mailed_code(), now=now)
    assert (waits.state, "paused" in waits.reason) == (CashOutState.CONFIRMED, True)
    cash_out_rules.set_rules(paused=False, **rules)
    assert advance(waits, now).state == CashOutState.ON_THE_WAY
    with pytest.raises(Invalid):
        cash_out_rules.set_rules(**{**rules, "daily_cents": 1}, paused=False)


def test_a_difference_in_the_books_blocks(ready, owner, now, monkeypatch):
    cash_out = confirmed(owner, now, cents=1000)
    monkeypatch.setattr(reconcile, "withdrawals_blocked", lambda: "The books differ.")
    with pytest.raises(CashOutRefused, match="books differ"):
        cash_outs.ask(user=owner, now=now, cents=1000)
    waits = advance(cash_out, now)
    assert (waits.state, waits.reason) == (CashOutState.RESERVED, "The books differ.")
    monkeypatch.undo()
    assert advance(cash_out, now).state == CashOutState.ON_THE_WAY


def test_earnings_settled_meanwhile_are_said_to_be_gone(ready, owner, now):
    asked = cash_outs.ask(user=owner, now=now, cents=1000)
    lines = (
        Line(accounts.user_account(owner.pk, "earnings_available"), -8 * NTC),
        Line(accounts.user_account(owner.pk, "settled"), 8 * NTC),
    )
    ledger.post(postings=[Posting("settle", "test", lines, now)], now=now)
    done = cash_outs.confirm(cash_out_id=asked.pk, user=owner, code=mailed_code(), now=now)
    assert (done.state, "2.00 NTC" in done.reason) == (CashOutState.REFUSED, True)


# --- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", ["find_transfer", "create_transfer", "find_payout", "create_payout", "read_payout"])
def test_a_lost_answer_at_any_step_pays_once(ready, stripe, owner, now, monkeypatch, name, after):
    cash_out = confirmed(owner, now, cents=1000)
    before = stripe_balance(stripe)
    stumble(monkeypatch, name, after=after)
    with pytest.raises(StripeUnavailable):
        advance(cash_out, now)
    cash_out = advance(cash_out, now + PATIENT)
    stripe.act("arrive", cash_out.payout_id)
    cash_out = advance(cash_out, now + PATIENT)
    assert cash_out.state == CashOutState.PAID
    assert stripe_balance(stripe) == before - 1000
    assert len(stripe.get("payouts", cash_out.account.stripe_id)["data"]) == 1
    assert money_of(owner) == Money(6, 0, 0, 1004, -1000, 0, 9_000)


def test_while_an_answer_is_missing_nobody_else_goes_on(ready, stripe, owner, now, monkeypatch):
    cash_out = confirmed(owner, now, cents=1000)
    stumble(monkeypatch, "create_transfer", after=True)
    with pytest.raises(StripeUnavailable):
        advance(cash_out, now)
    assert advance(cash_out, now + timedelta(seconds=60)).state == CashOutState.RESERVED
    assert advance(cash_out, now + PATIENT).state == CashOutState.ON_THE_WAY


@pytest.mark.parametrize("number", ["000111111113", "000111111116", "000333333335"])
def test_a_bank_that_refuses_gives_everything_back(stripe, stocked_desk, owner, now, number):
    earn(owner, 10 * NTC, now)
    fund(stripe, 10_000, now)
    link_bank(stripe, owner, now, number)
    before, stripe_before = money_of(owner), stripe_balance(stripe)
    cash_out = advance(confirmed(owner, now, cents=1000), now)
    stripe.act("arrive", cash_out.payout_id)
    cash_out = advance(cash_out, now)
    assert (cash_out.state, cash_out.closed_at) == (CashOutState.FAILED, now)
    assert cash_out.reason.startswith("Your bank")
    assert money_of(owner) == before
    assert stripe_balance(stripe) == stripe_before
    account = connect_accounts.sync(account_id=cash_out.account_id, now=now)
    assert (account.payable, account.bank_failed) == (False, True)
    change_bank(account)
    connect_accounts.sync(account_id=account.pk, now=now)
    again = advance(confirmed(owner, now, cents=1000), now)
    stripe.act("arrive", again.payout_id)
    assert advance(again, now).state == CashOutState.PAID


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", ["read_payout", "find_transfer", "reverse_transfer"])
def test_a_lost_answer_on_the_way_back_gives_back_once(ready, stripe, owner, now, monkeypatch, name, after):
    before, stripe_before = money_of(owner), stripe_balance(stripe)
    cash_out = advance(confirmed(owner, now, cents=1000), now)
    stripe.act("bounce", cash_out.payout_id)
    stumble(monkeypatch, name, after=after)
    with pytest.raises(StripeUnavailable):
        advance(cash_out, now)
    assert advance(cash_out, now + PATIENT).state == CashOutState.FAILED
    assert money_of(owner) == before
    assert stripe_balance(stripe) == stripe_before


def test_a_bank_may_send_it_back_after_it_was_paid(ready, stripe, owner, now):
    before = money_of(owner)
    cash_out = advance(confirmed(owner, now, cents=1000), now)
    stripe.act("arrive", cash_out.payout_id)
    assert advance(cash_out, now).state == CashOutState.PAID
    stripe.act("bounce", cash_out.payout_id)
    later = now + timedelta(days=3)
    cash_out_sweeps.sweep(now=later)
    cash_out.refresh_from_db()
    assert cash_out.state == CashOutState.FAILED
    assert money_of(owner) == before


def test_ntc_sold_meanwhile_are_given_back_when_the_desk_has_some(ready, stripe, owner, now):
    cash_out = advance(confirmed(owner, now, cents=1000), now)
    stripe.act("arrive", cash_out.payout_id)
    advance(cash_out, now)
    stock, escrow = accounts.platform_account("desk_inventory"), accounts.platform_account("escrow")
    away = Posting("away", "test", (Line(stock, -1004 * NTC), Line(escrow, 1004 * NTC)), now)
    [pk] = ledger.post(postings=[away], now=now)
    stripe.act("bounce", cash_out.payout_id)
    assert advance(cash_out, now).state == CashOutState.RETURNING
    assert StaffAlert.objects.standing().filter(code="cash_out_stuck").exists()
    ledger.reverse(transaction_id=pk, key="back", by=None, memo="")
    assert advance(cash_out, now).state == CashOutState.FAILED
    assert (money_of(owner).earned, money_of(owner).at_stripe) == (10, 10_000)
    assert not StaffAlert.objects.standing().filter(code="cash_out_stuck").exists()


def test_what_comes_back_repays_debts_first(ready, stripe, owner, now):
    cash_out = advance(confirmed(owner, now, cents=1000), now)
    lines = (
        Line(accounts.user_account(owner.pk, "shortfall"), -NTC),
        Line(accounts.platform_account("commission"), NTC),
    )
    ledger.post(postings=[Posting("debt", "test", lines, now)], now=now)
    stripe.act("bounce", cash_out.payout_id)
    advance(cash_out, now)
    assert (money_of(owner).earned, money_of(owner).owed) == (9, 0)


def test_it_waits_for_dollars_at_stripe_and_goes_on(ready, stripe, owner, cast, now):
    """By our books there are dollars, at Stripe they are not available yet: e.g. card money takes days."""
    cash_out = confirmed(owner, now, cents=1000)
    rest = stripe_balance(stripe)
    stripe.act("withdraw", "platform", amount=f"{rest / 100:.2f}")
    for _ in range(2):
        waits = advance(cash_out, now)
        assert (waits.state, waits.in_doubt) == (CashOutState.RESERVED, False)
        assert "Waiting for dollars" in waits.reason
    assert StaffAlert.objects.standing().filter(code="stripe_balance_short").exists()
    stripe.act("top-up", "platform", amount=f"{rest / 100:.2f}")
    assert advance(cash_out, now).state == CashOutState.ON_THE_WAY
    assert not StaffAlert.objects.standing().filter(code="stripe_balance_short").exists()
    assert len(stripe.get(f"transfers?transfer_group={cash_out.subject}")["data"]) == 1


@pytest.mark.parametrize("how", ["staff", "time"])
def test_what_waits_too_long_is_given_back(ready, stripe, owner, cast, now, how):
    before = money_of(owner)
    cash_out = confirmed(owner, now, cents=1000)
    rest = stripe_balance(stripe)
    stripe.act("withdraw", "platform", amount=f"{rest / 100:.2f}")
    with pytest.raises(Conflict):  # nothing was refused yet
        cash_out_steps.give_back(cash_out_id=cash_out.pk, by=cast.staff, now=now)
    advance(cash_out, now)
    later = now
    if how == "staff":
        cash_out_steps.give_back(cash_out_id=cash_out.pk, by=cast.staff, now=now)
    else:
        later = now + timedelta(days=6)
    assert advance(cash_out, later).state == CashOutState.FAILED
    assert money_of(owner) == before
    stripe.act("top-up", "platform", amount=f"{rest / 100:.2f}")
    assert advance(cash_out, later).state == CashOutState.FAILED
    assert not stripe.get(f"transfers?transfer_group={cash_out.subject}")["data"]


def test_staff_cannot_give_back_what_may_be_sent(ready, stripe, owner, cast, now, monkeypatch):
    cash_out = confirmed(owner, now, cents=1000)
    CashOut.objects.update(reason="Waiting for dollars")
    stumble(monkeypatch, "create_transfer", after=True)
    with pytest.raises(StripeUnavailable):
        advance(cash_out, now)
    with pytest.raises(Conflict, match="two minutes"):
        cash_out_steps.give_back(cash_out_id=cash_out.pk, by=cast.staff, now=now + PATIENT)


def test_an_account_stripe_switched_off_gets_nothing(ready, stripe, owner, now):
    cash_out = confirmed(owner, now, cents=1000)
    stripe.act("reject", ready.stripe_id)
    cash_out = advance(cash_out, now)
    assert (cash_out.state, money_of(owner).earned) == (CashOutState.FAILED, 10)
    account = connect_accounts.sync(account_id=ready.pk, now=now)
    assert (account.payable, account.disabled_reason) == (False, "rejected.fraud")


def test_a_payout_stripe_refuses_comes_back(ready, stripe, owner, now, monkeypatch):
    before = money_of(owner)
    cash_out = confirmed(owner, now, cents=1000)
    real = connect.find_payout

    def switched_off(**kwargs):
        stripe.act("reject", ready.stripe_id)
        return real(**kwargs)

    monkeypatch.setattr(connect, "find_payout", switched_off)
    cash_out = advance(cash_out, now)
    assert cash_out.state == CashOutState.FAILED
    assert money_of(owner) == before


def test_a_payout_thought_refused_is_found_again(ready, stripe, owner, now):
    """Stripe's refusal and its own books differ: the payout is there. Then nothing is given back."""
    cash_out = advance(confirmed(owner, now, cents=1000), now)
    payout = cash_out.payout_id
    CashOut.objects.update(state=CashOutState.RETURNING, payout_id=None)
    found = advance(cash_out, now)
    assert (found.state, found.payout_id) == (CashOutState.ON_THE_WAY, payout)


# --- what is told -------------------------------------------------------------------------------------------------


def test_each_message_is_sent_once(ready, stripe, owner, now):
    cash_out = advance(confirmed(owner, now, cents=1000), now)
    mail.outbox.clear()
    assert [cash_out_mails.tell(cash_out_id=cash_out.pk, now=now) for _ in range(2)] == [True, False]
    assert mail.outbox[0].subject == "Interchain: $10.00 are on the way to your bank"
    assert f"{cash_out.arrives_on:%Y-%m-%d}" in mail.outbox[0].body
    stripe.act("arrive", cash_out.payout_id)
    advance(cash_out, now)
    cash_out_sweeps.sweep(now=now)
    assert mail.outbox[1].subject == "Interchain: receipt for your cash-out of $10.00"
    assert "$2.50 per NTC" in mail.outbox[1].body
    stripe.act("bounce", cash_out.payout_id)
    advance(cash_out, now)
    cash_out_sweeps.sweep(now=now)
    assert "came back" in mail.outbox[2].subject
    assert "sent the money back" in mail.outbox[2].body or "could not process" in mail.outbox[2].body
    assert len(mail.outbox) == 3


def test_all_of_it_sums_to_zero(ready, stripe, owner, now):
    done, failed = (advance(confirmed(owner, now, cents=cents), now) for cents in (1000, 600))
    stripe.act("arrive", done.payout_id)
    stripe.act("bounce", failed.payout_id)
    for row in (done, failed):
        advance(row, now)
    by_currency: dict[str, int] = {}
    for entry in Entry.objects.select_related("account"):
        by_currency[entry.account.currency] = by_currency.get(entry.account.currency, 0) + entry.amount
    assert by_currency == {"NTC": 0, "USD": 0}
    assert queries.platform_balance("payout_clearing", "USD") == 0


# --- the bank -----------------------------------------------------------------------------------------------------


def test_one_account_at_stripe_however_often_one_begins(stripe, owner, now):
    for _ in range(2):
        connect_accounts.start_onboarding(user=owner, country="US", now=now)
    assert ConnectAccount.objects.get().stripe_id


def test_an_account_whose_answer_was_lost_is_found_again(stripe, owner, now):
    connect_accounts.start_onboarding(user=owner, country="US", now=now)
    first = ConnectAccount.objects.get().stripe_id
    ConnectAccount.objects.update(stripe_id=None)
    connect_accounts.start_onboarding(user=owner, country="US", now=now)
    assert ConnectAccount.objects.get().stripe_id == first


def test_countries_we_do_not_pay_to(stripe, owner, now, settings):
    with pytest.raises(Invalid, match="this country"):
        connect_accounts.start_onboarding(user=owner, country="FR", now=now)
    assert not ConnectAccount.objects.exists()


def test_a_bank_in_another_currency_cannot_be_paid(stripe, owner, now):
    account = link_bank(stripe, owner, now, country="GB", routing="108800", number="00012345")
    assert (account.payable, account.currency) == (False, "gbp")


def test_the_persons_page_at_stripe_needs_an_account(stripe, owner, now):
    with pytest.raises(BankMissing):
        connect_accounts.dashboard_url(user=owner)
    link_bank(stripe, owner, now)
    assert "/express/" in connect_accounts.dashboard_url(user=owner)


def test_an_account_being_checked_is_asked_about_by_the_sweep(stripe, owner, now):
    account = link_bank(stripe, owner, now, ssn="2222")
    assert (account.payable, account.pending) == (False, True)
    stripe.act("verify", account.stripe_id)
    cash_out_sweeps.sweep(now=now + timedelta(hours=2))
    account.refresh_from_db()
    assert account.payable
