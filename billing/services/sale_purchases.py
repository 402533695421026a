"""Buying NTC in a round of the token sale: prices, what a buyer's wallet sent, and what the chain says was bought.

A handler of `TokenSale.Bought` (`billing.services.chain_events`): the event alone makes a purchase delivered. The NTC
themselves are credited by `Settlement.Deposited`, an event of the same transaction, so this module never credits anybody.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction

from billing import money
from billing.chain import finality
from billing.chain.types import ZERO_HASH, Chain
from billing.errors import SaleRefused, SaleSoldOut
from billing.models import (
    ChainEvent,
    Payment,
    Quote,
    SaleAsset,
    SalePurchase,
    SaleRound,
    Wallet,
)
from billing.services import chain_accounts, desk, payment_postings, sale_gates, sale_payments
from billing.services.desk import Price
from billing.services.sale_payments import move
from billing.states import SalePurchaseState
from interchain_site.core import alerts, audit
from interchain_site.core.errors import Invalid
from interchain_site.core.models import User

log = structlog.get_logger(__name__)
ASSETS = (SaleAsset.STABLECOIN, SaleAsset.ETHER, SaleAsset.CARD)  # in the contract's order
HASH_LENGTH = 66
BATCH = 200
SENT_PATIENCE = timedelta(days=1)


def open_round() -> SaleRound | None:
    """Return the round that sells now."""
    return SaleRound.objects.filter(closed_at=None).exclude(opened_at=None).order_by("number").first()


def price(*, cents: int | None = None, units: int | None = None) -> tuple[SaleRound, Price]:
    """Return the round that sells and the price of an amount in it by card, given in cents or in base units.

    Raises:
        SaleRefused: no round is open, or card sales are paused.
        SaleSoldOut: more than the round has left.
        Invalid: neither or both amounts given, or outside what is sold at once.
    """
    sale_round = open_round()
    rate = sale_round.price if sale_round else None
    if sale_round is None or rate is None:
        raise SaleRefused("No round is open now. The sale page says what the next one waits for.")
    if sale_gates.rules().paused:
        raise SaleRefused("Card sales are paused. Try again later.")
    if (cents is None) == (units is None):
        raise Invalid("Say either how many dollars to spend or how many NTC to buy.", fields={"amount": "One amount."})
    if cents is not None:
        desk.check_limits(cents)
        units = money.ntc_units_for_cents(cents, rate)
    else:
        assert units is not None  # noqa: S101  (for the type checker: exactly one is given)
        cents = money.cents_for_ntc_units(units, rate)
        desk.check_limits(cents)
    left = sale_payments.left_units(sale_round)
    if left == 0:
        raise SaleSoldOut
    if units > left:
        raise SaleSoldOut(f"This round has {money.format_ntc(left)} left to sell. Ask for less.")
    return sale_round, Price(units, cents, rate)


def quote(*, user: User, now: datetime, cents: int | None = None, units: int | None = None) -> Quote:
    """Lock the open round's price for a buyer for `QUOTE_LOCK_SECONDS`; `topups.start_checkout` then opens the payment page.

    Raises:
        SaleRefused: see `price`, and the rules staff switched on.
    """
    sale_round, found = price(cents=cents, units=units)
    sale_gates.check(user=user, sale_round=sale_round, units=found.units)
    return Quote.objects.create(
        user=user,
        sale_round=sale_round,
        rate=found.rate,
        units=found.units,
        cents=found.cents,
        created_at=now,
        expires_at=now + timedelta(seconds=settings.QUOTE_LOCK_SECONDS),
    )


def note_sent(
    *,
    user: User,
    sale_round_id: int,
    asset: str,
    units: int,
    paid: int,
    account: str,
    wallet: str,
    transaction_hash: str,
    now: datetime,
) -> SalePurchase:
    """Remember what a buyer's wallet says it sent, so that their history shows it at once. Believed only for display.

    Raises:
        Invalid: not the hash of a transaction, or no such round.
    """
    sale_round = SaleRound.objects.filter(pk=sale_round_id).first()
    digits = transaction_hash.lower().removeprefix("0x")
    if len(digits) != HASH_LENGTH - 2 or set(digits) - set("0123456789abcdef") or sale_round is None:
        raise Invalid("This is not the hash of a transaction.", fields={"hash": "0x and 64 digits."})
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        known = SalePurchase.objects.filter(user=user, transaction_hash=f"0x{digits}").first()
        if known is not None:
            return known
        purchase = SalePurchase.objects.create(
            user=user,
            sale_round=sale_round,
            asset=asset,
            units=units,
            paid=str(paid),
            account=account,
            wallet=wallet,
            transaction_hash=f"0x{digits}",
            state=SalePurchaseState.SENT,
            created_at=now,
        )
        audit.record("sale_purchase_sent", subject=f"sale_purchase:{purchase.pk}", by=user, hash=f"0x{digits}")
    return purchase


def check_sent(*, chain: Chain, now: datetime) -> int:
    """Look for what wallets said they sent and no event speaks of; returns how many were given up.

    Raises:
        ChainUnavailable: the next round looks again.
    """
    final, given_up = finality.final_block(chain), 0
    sent = SalePurchase.objects.filter(state=SalePurchaseState.SENT, event=None).order_by("created_at")
    for pk, hash_, created_at in sent.values_list("pk", "transaction_hash", "created_at")[:BATCH]:
        receipt, why = chain.receipt(hash_), ""
        if receipt is None and now - created_at > SENT_PATIENCE:
            why = "No block took the transaction for a day. If it is mined after all, it appears here by itself."
        if receipt is not None and not receipt.succeeded and receipt.block_number <= final:
            why = "The contract refused the transaction: nothing was bought, only its gas was spent."
        if why:
            give_up(purchase_id=pk, why=why, now=now)
            given_up += 1
    return given_up


def give_up(*, purchase_id: UUID, why: str, now: datetime) -> None:
    """Note that nothing was bought by what a wallet sent; an event that comes all the same has the last word."""
    with transaction.atomic():
        purchase = SalePurchase.objects.select_for_update().get(pk=purchase_id)
        if purchase.state == SalePurchaseState.SENT:
            move(purchase, SalePurchaseState.FAILED, now=now, note=why)


def book(event: ChainEvent, *, now: datetime) -> None:
    """Write a final `Bought` down: its purchase is delivered, whoever began it."""
    asset = ASSETS[int(event.values["asset"])]
    purchase = _of_reference(event) if asset == SaleAsset.CARD else _of_wallet(event)
    if purchase is None and asset == SaleAsset.CARD:
        _allocated_without_purchase(event)
        return
    facts: dict[str, object] = {
        "event": event,
        "transaction_hash": event.transaction_hash,
        "account": _account(event),
        "wallet": event.values["buyer"] if asset != SaleAsset.CARD else "",
        "delivered_at": now,
        "note": "",
    }
    if purchase is None:
        purchase = _found_on_the_chain(event, asset, facts)
    else:
        facts |= {"units": int(event.values["ntc"])} if asset != SaleAsset.CARD else {}
        facts |= {"paid": event.values["paid"]} if asset != SaleAsset.CARD else {}
        facts |= {"sale_round_id": int(event.values["round"])}
        move(purchase, SalePurchaseState.DELIVERED, now=now, actor="chain", **facts)
    if purchase.payment_id is not None:
        payment = Payment.objects.select_for_update().get(pk=purchase.payment_id)
        payment_postings.deliver(payment, now=now)
        payment.save()
        from billing.tasks import money as tasks

        tasks.start(tasks.send_receipt, str(payment.pk))


def unbook(event: ChainEvent, *, now: datetime) -> None:
    """Undo `book`: the block vanished although it was final. The cashier, or the buyer's wallet, has it mined again."""
    Payment.objects.select_for_update().filter(sale_purchase__event=event).first()
    purchase = SalePurchase.objects.select_for_update().filter(event=event).first()
    if purchase is None:
        return
    state = SalePurchaseState.SENT
    if purchase.payment_id is not None:
        payment = Payment.objects.select_for_update().get(pk=purchase.payment_id)
        payment_postings.undeliver(payment, now=now)
        payment.save()
        state = SalePurchaseState.ALLOCATING if purchase.sending_id else SalePurchaseState.PAID
    move(purchase, state, now=now, actor="chain", event=None, delivered_at=None)


def _of_reference(event: ChainEvent) -> SalePurchase | None:
    """Lock the payment first and the purchase after it, in the order `topups` does."""
    reference = event.values["paymentReference"].lower()
    Payment.objects.select_for_update().filter(sale_purchase__reference=reference).first()
    return SalePurchase.objects.select_for_update().filter(reference=reference).first()


def _of_wallet(event: ChainEvent) -> SalePurchase | None:
    """Return the purchase its buyer announced; who announced somebody else's transaction is told so."""
    owner = _owner(event)
    announced = SalePurchase.objects.select_for_update().filter(
        transaction_hash=event.transaction_hash, event=None, asset__in=[SaleAsset.STABLECOIN, SaleAsset.ETHER]
    )
    theirs = None
    for purchase in announced.order_by("created_at"):
        right = purchase.user == owner if owner else purchase.wallet == event.values["buyer"]
        if right and theirs is None:
            theirs = purchase
        elif purchase.state == SalePurchaseState.SENT:
            move(
                purchase,
                SalePurchaseState.FAILED,
                now=event.block_time,
                note="This transaction bought for another account.",
            )
    return theirs


def _owner(event: ChainEvent) -> User | None:
    """Return the person whose portal account got the NTC, or whose linked wallet did."""
    if _account(event):
        known = chain_accounts.owner_of(_account(event))
        return known.user if known else None
    wallet = Wallet.objects.filter(address=event.values["buyer"]).select_related("user").first()
    return wallet.user if wallet else None


def _account(event: ChainEvent) -> str:
    account = str(event.values["account"])
    return "" if account == ZERO_HASH else account


def _found_on_the_chain(event: ChainEvent, asset: str, facts: dict[str, object]) -> SalePurchase:
    """Write down a purchase nobody announced: made past our pages, or its announcement was lost."""
    purchase = SalePurchase.objects.create(
        user=_owner(event),
        sale_round_id=int(event.values["round"]),
        asset=asset,
        units=int(event.values["ntc"]),
        paid=event.values["paid"],
        state=SalePurchaseState.DELIVERED,
        created_at=event.block_time,
        **facts,
    )
    audit.record("sale_purchase_found", subject=f"sale_purchase:{purchase.pk}", actor="chain", units=purchase.units)
    return purchase


def _allocated_without_purchase(event: ChainEvent) -> None:
    """The cashier's key gave out NTC no purchase names: the desk's stock, or a theft."""
    units, account = int(event.values["ntc"]), _account(event)
    audit.record("sale_allocated", subject=f"chain_event:{event.pk}", actor="chain", units=units, account=account)
    known = chain_accounts.owner_of(account) if account else None
    if known is None or known.name != chain_accounts.DESK:
        alerts.raise_alert(
            code="sale_allocation_unknown",
            subject=event.transaction_hash,
            message=f"The cashier's key allocated {money.format_ntc(units)} for no purchase of ours.",
            mend="If nobody of the staff did this, pause the sale as guardian, take CASHIER_ROLE from the key, then look here.",
        )
