"""What the ledger does because of what Stripe says about a payment.

Each function compares what should be on record with what is and writes only the difference, so it does not matter how often or
in which order news arrives. The caller holds the payment's row lock; accounts are locked after it, in id order.

A payment for the token sale moves dollars only, until the chain has delivered the NTC (`credited_at`): refunds and disputes
before that take no NTC, and `deliver` takes then what they stand for. What comes back of delivered NTC goes to the desk's stock,
because the Settlement contract holds it and the sale contract cannot take it back.
"""

from __future__ import annotations

from datetime import datetime

from billing import money
from billing.models import Dispute, Payment
from billing.services import accounts, ledger
from billing.services.accounts import FROZEN
from billing.services.debts import Purse
from billing.services.ledger import Line, Posting
from billing.states import DISPUTE_MOVES, DisputeState, check_move


class Till:
    """The accounts of one sale: the desk's, Stripe's mirror in USD, and the buyer's purse; all locked."""

    def __init__(self, payment: Payment) -> None:
        self.payment = payment
        self.inventory = accounts.platform_account("desk_inventory")
        self.clearing = accounts.platform_account("stripe_clearing", "USD")
        sales = "sale_proceeds_usd" if payment.for_sale_round else "desk_sales_usd"
        self.sales = accounts.platform_account(sales, "USD")
        self.disputed = accounts.platform_account("disputed_usd", "USD")
        self.purse = Purse(payment.user_id, {self.inventory, self.clearing, self.sales, self.disputed})

    def post(self, *, key: str, kind: str, lines: list[Line], now: datetime, memo: str) -> None:
        kept = tuple(line for line in lines if line.amount)
        if kept:
            posting = Posting(key, kind, kept, now, memo, f"payment:{self.payment.pk}")
            ledger.post(postings=[posting], now=now)


def credit(payment: Payment, *, now: datetime) -> None:
    """Hand over the NTC that was paid for: once, whoever calls how often.

    Raises:
        InsufficientFunds: the desk does not hold it (staff took it away meanwhile); the sweep tries again.
    """
    till = Till(payment)
    lines = [
        Line(till.inventory, -payment.units),
        *till.purse.give(payment.units),
        Line(till.clearing, -payment.cents),
        Line(till.sales, payment.cents),
    ]
    memo = f"Bought for {money.format_usd_cents(payment.cents)} by card"
    till.post(key=f"payment:{payment.pk}", kind="ntc_purchase", lines=lines, now=now, memo=memo)
    payment.credited_at = now


def book_proceeds(payment: Payment, *, now: datetime) -> None:
    """Write down the dollars of a payment for the token sale: once, whoever calls how often."""
    till = Till(payment)
    lines = [Line(till.clearing, -payment.cents), Line(till.sales, payment.cents)]
    memo = (
        f"Paid {money.format_usd_cents(payment.cents)} by card for {money.format_ntc(payment.units)} of the token sale"
    )
    till.post(key=f"payment:{payment.pk}", kind="sale_payment", lines=lines, now=now, memo=memo)


def deliver(payment: Payment, *, now: datetime) -> None:
    """Note that the chain delivered the NTC, and take what earlier refunds and disputes stand for."""
    payment.credited_at = now
    payment.version += 1
    key = f"delivered:{payment.pk}:{payment.version}"
    for dispute in _standing_disputes(payment):
        dispute.units = min(
            _units_for(payment, dispute.cents), payment.units - _units_in_disputes(payment, but=dispute)
        )
        till = Till(payment)
        into = till.purse.line(FROZEN, dispute.units)
        if dispute.state == DisputeState.LOST:
            into = Line(till.inventory, dispute.units)
        lines = [*till.purse.take(dispute.units), into]
        till.post(
            key=f"{key}:{dispute.pk}", kind="dispute_opened", lines=lines, now=now, memo="Disputed before delivery"
        )
        dispute.save()
    kept = payment.units - _units_in_disputes(payment)
    payment.refunded_units = min(_units_for(payment, payment.refunded_cents), kept)
    till = Till(payment)
    lines = [*till.purse.take(payment.refunded_units), Line(till.inventory, payment.refunded_units)]
    till.post(key=key, kind="refund", lines=lines, now=now, memo="Refunded before delivery")


def undeliver(payment: Payment, *, now: datetime) -> None:
    """Undo `deliver`, and what later refunds and disputes took: the chain lost the block that delivered the NTC."""
    payment.credited_at = None
    payment.version += 1
    key = f"undelivered:{payment.pk}:{payment.version}"
    for dispute in _standing_disputes(payment):
        till = Till(payment)
        out = till.purse.line(FROZEN, -dispute.units)
        if dispute.state == DisputeState.LOST:
            out = Line(till.inventory, -dispute.units)
        lines = [out, *till.purse.give(dispute.units)]
        till.post(key=f"{key}:{dispute.pk}", kind="dispute_undone", lines=lines, now=now, memo="Delivery undone")
        dispute.units = 0
        dispute.save()
    till = Till(payment)
    lines = [Line(till.inventory, -payment.refunded_units), *till.purse.give(payment.refunded_units)]
    till.post(key=key, kind="refund_undone", lines=lines, now=now, memo="Delivery undone")
    payment.refunded_units = 0


def apply_refunds(payment: Payment, *, refunded_cents: int, now: datetime) -> bool:
    """Bring the NTC taken back in line with the money refunded so far; returns whether anything changed."""
    cents = refunded_cents - payment.refunded_cents
    if not cents:
        return False
    kept = payment.units - _units_in_disputes(payment)
    units = min(_units_for(payment, refunded_cents), kept) - payment.refunded_units
    till = Till(payment)
    give_or_take = till.purse.take(units) if units > 0 else till.purse.give(-units)
    lines = [
        *give_or_take,
        Line(till.inventory, units),
        Line(till.clearing, cents),
        Line(till.sales, -cents),
    ]
    memo = f"Refunded {money.format_usd_cents(cents)}" if cents > 0 else "A refund came back from the bank"
    till.post(key=f"refund:{payment.pk}:{payment.version}", kind="refund", lines=lines, now=now, memo=memo)
    payment.refunded_cents, payment.refunded_units = refunded_cents, payment.refunded_units + units
    return True


def apply_dispute(payment: Payment, dispute: Dispute, *, state: str, now: datetime) -> bool:
    """Bring a dispute to the state Stripe reports and move the money accordingly; returns whether anything changed.

    The steps are: opened freezes the NTC (what is spent becomes a debt), lost gives the frozen NTC back to the desk,
    won gives it back to the buyer. A dispute first heard of when it is lost goes through both.
    """
    if state == dispute.state or (state == DisputeState.SEEN):
        return False
    check_move(DISPUTE_MOVES, dispute.state, state)
    till = Till(payment)
    if dispute.state == DisputeState.SEEN and state != DisputeState.WON:
        taken = payment.units - payment.refunded_units - _units_in_disputes(payment, but=dispute)
        dispute.units = min(_units_for(payment, dispute.cents), taken)
        _move(till, dispute, "opened", now, [*till.purse.take(dispute.units), till.purse.line(FROZEN, dispute.units)])
        dispute.state = DisputeState.OPEN
        till = Till(payment)  # balances moved
    if state != dispute.state:
        _close(till, dispute, state, now)
        dispute.closed_at = now
    dispute.state = state
    dispute.save()
    return True


def _close(till: Till, dispute: Dispute, state: str, now: datetime) -> None:
    frozen = till.purse.line(FROZEN, -dispute.units)
    if state == DisputeState.LOST:
        _move(till, dispute, "lost", now, [frozen, Line(till.inventory, dispute.units)])
    elif dispute.state == DisputeState.OPEN:
        _move(till, dispute, "won", now, [frozen, *till.purse.give(dispute.units)])
    elif dispute.state == DisputeState.LOST:
        _move(till, dispute, "overturned", now, [Line(till.inventory, -dispute.units), *till.purse.give(dispute.units)])


def _move(till: Till, dispute: Dispute, step: str, now: datetime, lines: list[Line]) -> None:
    dollars = {
        "opened": [Line(till.clearing, dispute.cents), Line(till.disputed, -dispute.cents)],
        "lost": [Line(till.disputed, dispute.cents), Line(till.sales, -dispute.cents)],
        "won": [Line(till.clearing, -dispute.cents), Line(till.disputed, dispute.cents)],
        "overturned": [Line(till.clearing, -dispute.cents), Line(till.sales, dispute.cents)],
    }[step]
    memo = f"Dispute of {money.format_usd_cents(dispute.cents)} {step}"
    key = f"dispute:{dispute.pk}:{step}"
    till.post(key=key, kind=f"dispute_{step}", lines=[*lines, *dollars], now=now, memo=memo)


def _standing_disputes(payment: Payment) -> list[Dispute]:
    return list(payment.disputes.filter(state__in=[DisputeState.OPEN, DisputeState.LOST]).order_by("pk"))


def _units_for(payment: Payment, cents: int) -> int:
    """The part of the NTC that stands for part of the price; all of it for all of it; nothing before it is delivered."""
    if payment.credited_at is None:
        return 0
    return money.share(payment.units, cents, payment.cents)


def _units_in_disputes(payment: Payment, but: Dispute | None = None) -> int:
    held = payment.disputes.filter(state__in=[DisputeState.OPEN, DisputeState.LOST])
    return sum(dispute.units for dispute in held if but is None or dispute.pk != but.pk)
