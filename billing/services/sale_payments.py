"""What the token sale makes of a card payment: room kept for it, and its purchase brought in line with what Stripe says.

`topups` calls this while it holds the payment's row. The chain's half is in `cashier` and `sale_purchases`.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import Sum

from billing import money
from billing.errors import SaleRefused, SaleSoldOut
from billing.models import Payment, Quote, SaleAsset, SalePurchase, SaleRound
from billing.services import sale_gates
from billing.states import SALE_PURCHASE_MOVES, DisputeState, PaymentState, SalePurchaseState, check_move
from interchain_site.core import alerts, audit

PROMISED = (SalePurchaseState.AWAITING, SalePurchaseState.PAID, SalePurchaseState.ALLOCATING)
ON_THE_CHAIN = (SalePurchaseState.ALLOCATING, SalePurchaseState.DELIVERED)


def left_units(sale_round: SaleRound) -> int:
    """Return the base units a round can still sell by card: what the contract has left less what is promised to others.

    A purchase just written to the chain counts on both sides until it is final; so this errs on the side of too little.
    """
    promised = SalePurchase.objects.filter(sale_round=sale_round, asset=SaleAsset.CARD, state__in=PROMISED)
    return max(0, sale_round.unsold_units - (promised.aggregate(units=Sum("units"))["units"] or 0))


def check_room(quote: Quote, *, now: datetime) -> None:
    """Say no to a quote the sale cannot keep any more.

    Raises:
        SaleRefused: the round is closed, card sales are paused, or a rule says no.
        SaleSoldOut: others were faster.
    """
    sale_round = SaleRound.objects.select_for_update().get(pk=quote.sale_round_id or 0)
    if not sale_round.open or sale_round.price != quote.rate:
        raise SaleRefused("This round closed meanwhile. Look at the sale page for the one that is open.")
    if sale_gates.rules().paused:
        raise SaleRefused("Card sales are paused. Nothing was charged; try again later.")
    left = left_units(sale_round)
    if left == 0:
        raise SaleSoldOut
    if quote.units > left:
        raise SaleSoldOut(f"This round has {money.format_ntc(left)} left to sell. Ask for less.")
    sale_gates.check(user=quote.user, sale_round=sale_round, units=quote.units)


def reserve(payment: Payment) -> None:
    """Begin the purchase a payment of the sale pays for; other payments are none of ours."""
    sale_round_id = payment.quote.sale_round_id
    if sale_round_id is None:
        return
    purchase = SalePurchase.objects.create(
        user=payment.user,
        sale_round_id=sale_round_id,
        asset=SaleAsset.CARD,
        units=payment.units,
        paid=str(payment.cents),
        state=SalePurchaseState.AWAITING,
        payment=payment,
        created_at=payment.created_at,
    )
    audit.record("sale_purchase_begun", subject=f"sale_purchase:{purchase.pk}", by=payment.user, units=purchase.units)


def follow(payment: Payment, *, now: datetime, country: str = "") -> None:
    """Bring the purchase in line with its payment. What is on the chain already stays there: refunds then take NTC back."""
    if not payment.for_sale_round:
        return
    purchase = SalePurchase.objects.select_for_update().get(payment=payment)
    if country and country != purchase.country:
        purchase.country = country[:2]
        purchase.save(update_fields=["country"])
    for state in _way(purchase, payment):
        # Only what we pay back ourselves keeps its reason; a note that it waits is over.
        note = purchase.note if purchase.state == SalePurchaseState.REFUNDING else ""
        move(purchase, state, now=now, actor="stripe", note=note)


def move(purchase: SalePurchase, state: str, *, now: datetime, actor: str = "system", **changes: object) -> None:
    """Move a purchase whose row the caller has locked, and write it down."""
    was = purchase.state
    check_move(SALE_PURCHASE_MOVES, was, state)
    for name, value in {"state": state, **changes}.items():
        setattr(purchase, name, value)
    purchase.save()
    audit.record(
        "sale_purchase_moved",
        subject=f"sale_purchase:{purchase.pk}",
        actor=actor,
        was=was,
        to=state,
        note=purchase.note,
    )
    if state in (SalePurchaseState.DELIVERED, SalePurchaseState.REFUNDED):
        alerts.clear_alert(code="sale_allocation_waits", subject=str(purchase.pk))
    if state in (SalePurchaseState.PAID, SalePurchaseState.REFUNDING):
        from billing.tasks.money import start
        from billing.tasks.settlement import run_round

        start(run_round)


def money_is_back(payment: Payment) -> bool:
    """Return whether all of a payment's money went back, by refunds and lost disputes."""
    lost = payment.disputes.filter(state=DisputeState.LOST).aggregate(cents=Sum("cents"))["cents"] or 0
    return payment.refunded_cents + int(lost) >= payment.cents


def _way(purchase: SalePurchase, payment: Payment) -> list[str]:
    """Return the states to go through."""
    state = purchase.state
    if state in ON_THE_CHAIN:
        return []
    if payment.state == PaymentState.EXPIRED:
        return [SalePurchaseState.EXPIRED] if state == SalePurchaseState.AWAITING else []
    if payment.state not in (PaymentState.PAID, PaymentState.REFUNDED):
        return []
    way = [SalePurchaseState.PAID] if state in (SalePurchaseState.AWAITING, SalePurchaseState.EXPIRED) else []
    if money_is_back(payment):
        return [*way, SalePurchaseState.REFUNDED] if state != SalePurchaseState.REFUNDED else []
    if state == SalePurchaseState.REFUNDED:
        return [SalePurchaseState.PAID]
    return [str(step) for step in way]
