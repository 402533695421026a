"""The cashier: what was paid for by card in a round is handed over on the chain, or paid back.

Steps of a purchase from its payment on; each can be repeated at any time, and a crash between any two loses nothing:

1. Stripe is asked again: all the money is there and no bank disputes it. A dispute makes it wait.
2. Rules and contract are asked: is the card's country allowed, is the same round still open, does the contract take it?
   If not, for a reason that will not pass, the purchase is to be paid back; if for one that may (paused, the cashier's limit
   of the day, no gas money), it waits.
3. The transaction is signed by the cashier's key and stored, the purchase is `allocating` with it, both or neither.
4. It is sent, and followed by `billing.chain.transactions`.
5. A transaction that did nothing (refused in its block, displaced) puts the purchase back to step 1 with a new attempt.
   The contract takes each reference once, so no number of attempts allocates twice.
6. The final event `Bought` makes it delivered (`sale_purchases.book`).

Steps of paying back:

A. The purchase is `refunding`, with the reason; from then on nothing can allocate it.
B. Stripe is asked for the refund of what is left, under a key that makes repeating it harmless.
C. Stripe says it is refunded (`sale_payments.follow`), and the buyer is told once by e-mail.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from uuid import UUID

import structlog
from django.db import transaction

from billing import money
from billing.chain import deployments, transactions
from billing.chain.errors import Reverted
from billing.chain.sale import TokenSale
from billing.chain.states import NEVER_DONE
from billing.chain.types import Chain
from billing.models import Payment, SaleAsset, SalePurchase
from billing.services import chain_accounts, receipts, sale_gates, sale_payments, topups
from billing.services.sale_payments import move
from billing.states import DisputeState, PaymentState, SalePurchaseState
from interchain_site.core import alerts
from interchain_site.core.errors import DomainError, NotFound

log = structlog.get_logger(__name__)
BATCH = 200
# The contract's refusals that waiting does not mend.
OVER = {
    "TokenSaleSoldOut": "the round sold out before your purchase could be written to Ethereum",
    "TokenSaleNoOpenRound": "the round closed before your purchase could be written to Ethereum",
}
ALLOCATED_ALREADY = "TokenSaleReferenceUsed"


def run(*, chain: Chain, now: datetime) -> int:
    """Do what is due for every card purchase; returns how many steps were taken. One that fails does not stop the next."""
    cards = SalePurchase.objects.filter(asset=SaleAsset.CARD).order_by("created_at")
    jobs: list[Callable[[], int]] = []
    for state, job in (
        (SalePurchaseState.ALLOCATING, check_allocation),
        (SalePurchaseState.PAID, partial(allocate, chain=chain)),
        (SalePurchaseState.REFUNDING, pay_back),
    ):
        for pk in cards.filter(state=state).values_list("pk", flat=True)[:BATCH]:
            jobs.append(partial(job, purchase_id=pk, now=now))
    untold = cards.filter(state=SalePurchaseState.REFUNDED, told_at=None)
    for pk in untold.values_list("pk", flat=True)[:BATCH]:
        jobs.append(partial(receipts.tell_paid_back, purchase_id=pk, now=now))
    return sum(_try(job) for job in jobs)


def allocate(*, purchase_id: UUID, chain: Chain, now: datetime) -> int:
    """Steps 1 to 4.

    Raises:
        StripeUnavailable, ChainUnavailable, ChainRefused, KeyUnavailable: nothing is lost; the next round goes on.
    """
    purchase = SalePurchase.objects.select_related("payment", "user").get(pk=purchase_id)
    payment = topups.sync_payment(payment_id=_payment_id(purchase), now=now)
    purchase.refresh_from_db()
    if purchase.state != SalePurchaseState.PAID or _disputed(payment):
        return 0
    why = _refused(purchase, chain)
    if why:
        return begin_paying_back(purchase_id=purchase.pk, why=why, now=now)
    if purchase.user is None:
        return 0
    account = chain_accounts.reference_of(user=purchase.user)
    call = TokenSale(deployments.load().sale).allocate(
        account=account, units=purchase.units, reference=purchase.reference
    )
    try:
        plan = transactions.plan(call=call, chain=chain, role="cashier")
    except Reverted as error:
        return _refusal(purchase, error, now)
    with transaction.atomic():
        locked, payment = _locked(purchase.pk)
        if locked.state != SalePurchaseState.PAID or sale_payments.money_is_back(payment) or _disputed(payment):
            return 0
        row = transactions.build(key=f"sale:{locked.reference[2:34]}:{locked.attempt}", plan=plan, now=now)
        move(
            locked,
            SalePurchaseState.ALLOCATING,
            now=now,
            sending=row,
            account=account,
            transaction_hash=row.hash,
            note="",
        )
    alerts.clear_alert(code="sale_allocation_waits", subject=str(purchase.pk))
    transactions.send(row=row, chain=chain, now=now)
    return 1


def check_allocation(*, purchase_id: UUID, now: datetime) -> int:
    """Step 5."""
    with transaction.atomic():
        purchase, _ = _locked(purchase_id)
        row = purchase.sending
        if purchase.state != SalePurchaseState.ALLOCATING or row is None:
            return 0
        if row.state not in NEVER_DONE:
            if row.hash != purchase.transaction_hash:
                SalePurchase.objects.filter(pk=purchase.pk).update(transaction_hash=row.hash)
            return 0
        move(purchase, SalePurchaseState.PAID, now=now, attempt=purchase.attempt + 1, sending=None, transaction_hash="")
    return 1


def begin_paying_back(*, purchase_id: UUID, why: str, now: datetime) -> int:
    """Step A."""
    with transaction.atomic():
        purchase, _ = _locked(purchase_id)
        if purchase.state != SalePurchaseState.PAID:
            return 0
        move(purchase, SalePurchaseState.REFUNDING, now=now, note=why[:300])
    alerts.clear_alert(code="sale_allocation_waits", subject=str(purchase.pk))
    return 1


def pay_back(*, purchase_id: UUID, now: datetime) -> int:
    """Steps B and C.

    Raises:
        StripeUnavailable: the next round tries again. `StripeRefused` raises an alert as well: a person must look.
    """
    purchase = SalePurchase.objects.select_related("payment").get(pk=purchase_id)
    payment = topups.sync_payment(payment_id=_payment_id(purchase), now=now)
    if payment.state == PaymentState.PAID and not sale_payments.money_is_back(payment) and not _disputed(payment):
        try:
            topups.refund_payment(payment_id=payment.pk, cents=None, by=None, now=now)
        except DomainError as error:
            if error.permanent:
                _alert(purchase, f"Stripe does not take the refund: {error.message}")
            raise
    return 1


def _refused(purchase: SalePurchase, chain: Chain) -> str:
    """Return why this purchase cannot stand, or nothing."""
    refused = sale_gates.refused_countries(sale_gates.rules())
    if purchase.country in refused:
        name = sale_gates.countries()[purchase.country]
        return f"your card was issued in {name}, whose residents the sale is not open to"
    sale = TokenSale(deployments.load().sale)
    if sale.current_round(chain) != purchase.sale_round_id and not sale.reference_used(chain, purchase.reference):
        return OVER["TokenSaleNoOpenRound"]
    return ""


def _refusal(purchase: SalePurchase, error: Reverted, now: datetime) -> int:
    """The contract says no: for good, for now, or because it is done already."""
    if error.name in OVER:
        return begin_paying_back(purchase_id=purchase.pk, why=OVER[error.name], now=now)
    if error.name != ALLOCATED_ALREADY:  # else its event is on the way
        _alert(purchase, error.message)
        SalePurchase.objects.filter(pk=purchase.pk).update(
            note="Waiting: the sale contract takes no purchases just now."
        )
    return 0


def _alert(purchase: SalePurchase, message: str) -> None:
    alerts.raise_alert(
        code="sale_allocation_waits",
        subject=str(purchase.pk),
        message=f"A paid purchase of {money.format_ntc(purchase.units)} waits: {message}",
        mend="Unpause the sale, raise the cashier's limit, give the key its role, or refund the payment in the admin.",
        patience_seconds=600,
    )


def _disputed(payment: Payment) -> bool:
    return payment.disputes.filter(state=DisputeState.OPEN).exists()


def _locked(purchase_id: UUID) -> tuple[SalePurchase, Payment]:
    """Lock the payment first and the purchase after it, in the order `topups` does."""
    payment = Payment.objects.select_for_update().get(sale_purchase__pk=purchase_id)
    return SalePurchase.objects.select_for_update().get(pk=purchase_id), payment


def _payment_id(purchase: SalePurchase) -> UUID:
    if purchase.payment_id is None:
        raise NotFound("This purchase was not paid by card.")
    return purchase.payment_id


def _try(job: Callable[[], int]) -> int:
    try:
        return job()
    except DomainError as error:
        log.warning("cashier_waits", code=error.code, message=error.message)
    except Exception:
        log.exception("cashier_broke")
    return 0
