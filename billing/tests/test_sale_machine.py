"""Any order of payments, refunds, disputes, reorganisations, pauses and sell-outs comes to the same books."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing import queries
from billing.errors import CheckoutRefused, PaymentRefused
from billing.models import SalePurchase
from billing.services import topups
from billing.states import DisputeState, SalePurchaseState
from billing.stripe.gateway import StripeRefused
from billing.tests.saling import NTC, Shop, books_balance, dollars, fake_shop, ledger_holds
from interchain_site.core.errors import DomainError

EVENTS = (
    "begin", "pay", "refund part", "refund all", "dispute", "win", "lose", "turn", "turn", "mine", "hold blocks",
    "let blocks", "pause", "unpause", "reorganise", "reorganise and drop", "node fails",
)  # fmt: skip


class Site:
    """Does one thing at random to one of the buyer's purchases; what cannot be done is not done."""

    def __init__(self, shop: Shop, cast: Any) -> None:
        self.shop, self.cast = shop, cast
        self.purchases: list[SalePurchase] = []

    def do(self, event: str, which: int) -> None:
        if event == "begin":
            with suppress(CheckoutRefused):
                self.purchases.append(self.shop.checkout(self.cast.buyer))
        elif event in ("pay", "refund part", "refund all", "dispute", "win", "lose"):
            if self.purchases:
                self.to_purchase(event, self.shop.again(self.purchases[which % len(self.purchases)]))
        else:
            self.to_chain(event)

    def to_purchase(self, event: str, purchase: SalePurchase) -> None:
        assert purchase.payment is not None
        if event == "pay":
            self.shop.stripe.pay(purchase.payment.session_url)
        elif event.startswith("refund"):
            cents = 300 if event == "refund part" else None
            try:
                topups.refund_payment(payment_id=purchase.payment.pk, cents=cents, by=None, now=self.shop.now)
            except (PaymentRefused, StripeRefused):
                return
        elif event == "dispute" and purchase.payment.payment_intent_id:
            self.shop.stripe.act("dispute", self.shop.charge_of(purchase))
        elif dispute := purchase.payment.disputes.filter(state=DisputeState.OPEN).first():
            self.shop.stripe.act(event, dispute.pk)
        self.shop.sync(purchase)

    def to_chain(self, event: str) -> None:
        chain = self.shop.chain
        if event == "turn":
            self.shop.now += timedelta(seconds=70)
            self.shop.turn()
        elif event in ("hold blocks", "let blocks"):
            chain.automine = event == "let blocks"
        elif event in ("pause", "unpause"):
            self.shop.contract.is_paused = event == "pause"
        elif event == "node fails":
            chain.break_next["estimate_gas"] = _fails
        elif event.startswith("reorganise"):
            chain.reorganise(2, drop=event.endswith("drop"))
        chain.mine()

    def come_to_rest(self) -> None:
        self.shop.chain.automine, self.shop.contract.is_paused = True, False
        self.shop.chain.break_next.clear()
        for _ in range(10):
            self.to_chain("turn")
        for purchase in self.purchases:
            self.shop.sync(purchase)


def _fails() -> None:
    raise DomainError("The node fails.")


@pytest.mark.slow
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@given(events=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 3)), min_size=4, max_size=14))
def test_books_and_chain_agree_whatever_happens(db, chain_settings, stripe, cast, events):
    from django.conf import settings as site_settings
    from django.db import transaction

    with transaction.atomic():
        site = Site(fake_shop(site_settings, stripe), cast)
        site.shop.open()
        site.shop.chain.mine(40)  # so that no reorganisation below reaches the opening
        for event, which in events:
            site.do(event, which)
        site.come_to_rest()
        check(site)
        transaction.set_rollback(True)


def check(site: Site) -> None:
    books_balance()
    deposited = sum(site.shop.chain.settlement.deposited.values())
    assert -ledger_holds("escrow") == deposited == site.shop.contract.rounds[0].sold
    kept_units = kept_cents = 0
    for row in site.purchases:
        purchase = site.shop.again(row)
        payment = purchase.payment
        assert payment is not None
        lost = sum(payment.disputes.filter(state=DisputeState.LOST).values_list("cents", flat=True))
        paid = payment.cents if payment.paid_at else 0
        kept_cents += paid - (payment.refunded_cents + lost if paid else 0)
        if purchase.state == SalePurchaseState.DELIVERED:
            held = payment.disputes.filter(state__in=[DisputeState.LOST]).values_list("units", flat=True)
            kept_units += purchase.units - payment.refunded_units - sum(held)
        else:  # nobody has both the NTC and the money back, or neither
            assert paid == 0 or lost + payment.refunded_cents == payment.cents or _disputed(payment)
    found = queries.balances(site.cast.buyer.pk)
    assert found.available + found.frozen - found.owed == kept_units
    in_dispute = sum(
        sum(site.shop.again(row).payment.disputes.filter(state=DisputeState.OPEN).values_list("cents", flat=True))
        for row in site.purchases
    )
    assert dollars("sale_proceeds_usd") == kept_cents
    assert -dollars("stripe_clearing") == kept_cents - in_dispute
    assert kept_units % NTC == 0


def _disputed(payment: Any) -> bool:
    return bool(payment.disputes.filter(state=DisputeState.OPEN).exists())
