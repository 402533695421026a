"""Rounds of the token sale: what staff order, how it reaches the contract, and the copy of the contract's view.

An order is a row first. Steps, each of which can be repeated at any time:

1. Staff order; the rules that the contract will apply are explained before (`explain_opening`).
2. The chain worker asks the node whether the contract takes it; a refusal ends the order with the contract's words.
3. The transaction is signed by the sales manager's key and stored, the order is `sent`, both or neither.
4. It is sent, and followed by `billing.chain.transactions`.
5. Its final event makes it `done` (`book`); a transaction refused in its block makes it `failed`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction

from billing import money
from billing.chain import deployments, transactions
from billing.chain.errors import Reverted
from billing.chain.sale import CARRY, LOCK, TokenSale
from billing.chain.states import TransactionState, transition
from billing.chain.types import Call, Chain
from billing.models import ChainEvent, SaleOrder, SaleRound
from billing.sale_tables import PRICE_FACTOR
from billing.states import SALE_ORDER_MOVES, SaleOrderState
from interchain_site.core import audit
from interchain_site.core.errors import Conflict, DomainError, Invalid
from interchain_site.core.models import User

log = structlog.get_logger(__name__)
DECISIONS = {"carry": CARRY, "lock": LOCK}
UNDER_WAY = (SaleOrderState.ASKED, SaleOrderState.SENT)
KIND_OF = {"RoundOpened": SaleOrder.OPEN, "RoundClosed": SaleOrder.CLOSE, "UnsoldDecided": SaleOrder.UNSOLD}


def next_round() -> SaleRound | None:
    """Return the round that would be opened next."""
    return SaleRound.objects.filter(opened_at=None).order_by("number").first()


def price_cap(sale_round: SaleRound) -> int | None:
    """Return the most this round may cost, in nano-dollars per NTC; None for the first."""
    before = SaleRound.objects.filter(number=sale_round.number - 1).first()
    return before.next_cap_nano_usd if before else None


def explain_opening(*, sale_round: SaleRound, price: Decimal, now: datetime) -> list[str]:
    """Return what opening a round at a price means, in sentences, for staff to read before they confirm.

    Raises:
        Invalid: not a price, or above three times the previous round's.
        Conflict: the previous round is not closed.
    """
    nano = _checked_price(sale_round, price)
    before = SaleRound.objects.filter(number=sale_round.number - 1).first()
    if before is not None and before.closed_at is None:
        raise Conflict(f"{before} is not closed. Close it first; the contract sells one round at a time.")
    planned = sale_round.planned_on
    said = [
        f"{sale_round} offers {money.format_ntc(sale_round.offered_units)} at {money.format_nano_usd(nano)} for one NTC. "
        "The contract keeps this price until the round is closed; nobody can change it.",
        f"The whitepaper's trigger for it: {sale_round.trigger}. Its planned date was {planned:%Y-%m-%d}"
        + (", which has passed." if planned <= now.date() else ", which is still to come; nothing waits for it."),
    ]
    if before is not None and before.price_nano_usd:
        times = Decimal(nano) / before.price_nano_usd
        said.append(
            f"That is {times.quantize(Decimal('0.01'))} times {before}'s price of "
            f"{money.format_nano_usd(before.price_nano_usd)}; at most {PRICE_FACTOR} times is allowed."
        )
    if before is not None and before.unsold_units and not before.unsold_decision:
        said.append(
            f"{before} left {money.format_ntc(before.unsold_units)} unsold, and nothing is decided about them yet."
        )
    if sale_round.number < SaleRound.objects.count():
        said.append(f"The next round may then cost at most {money.format_nano_usd(PRICE_FACTOR * nano)}.")
    return said


def order_open(*, price: Decimal, by: User | None, now: datetime) -> SaleOrder:
    """Order the next round to be opened at `price` USD per NTC.

    Raises:
        Invalid, Conflict: see `explain_opening`; or an order for it is under way.
    """
    sale_round = next_round()
    if sale_round is None:
        raise Conflict("All three rounds were opened. There is no further round.")
    explain_opening(sale_round=sale_round, price=price, now=now)
    return _order(sale_round, SaleOrder.OPEN, by, now, price_nano_usd=_checked_price(sale_round, price))


def order_close(*, number: int, by: User | None, now: datetime) -> SaleOrder:
    """Order the open round to be closed, for good.

    Raises:
        Conflict: it is not open, or an order for it is under way.
    """
    sale_round = SaleRound.objects.get(pk=number)
    if not sale_round.open:
        raise Conflict(f"{sale_round} is not open.")
    return _order(sale_round, SaleOrder.CLOSE, by, now)


def order_unsold(*, number: int, decision: str, reason: str, by: User | None, now: datetime) -> SaleOrder:
    """Order what a closed round did not sell to be carried to the next one, or locked for good. It cannot be taken back.

    Raises:
        Invalid: no reason, or no such decision.
        Conflict: not closed, nothing unsold, decided before, or there is no next round to carry it to.
    """
    sale_round = SaleRound.objects.get(pk=number)
    if decision not in DECISIONS:
        raise Invalid("Choose what becomes of it.", fields={"decision": "Carry or lock."})
    if not reason.strip():
        raise Invalid("Give the reason; everybody can read it on the chain.", fields={"reason": "Say why."})
    if sale_round.closed_at is None or sale_round.unsold_decision or not sale_round.unsold_units:
        raise Conflict(f"There is nothing to decide about {sale_round}: it is not closed, sold out, or decided.")
    following = SaleRound.objects.filter(number=number + 1).first()
    if decision == "carry" and (following is None or following.closed_at is not None):
        raise Conflict("There is no later round to carry it to. It can only be locked.")
    return _order(sale_round, SaleOrder.UNSOLD, by, now, decision=decision, reason=reason.strip()[:300])


def send_orders(*, chain: Chain, now: datetime) -> int:
    """Carry out what staff ordered; returns how many orders moved. One that cannot be sent now does not stop the next."""
    moved = 0
    for order in SaleOrder.objects.filter(state__in=UNDER_WAY).select_related("sale_round", "sending").order_by("pk"):
        try:
            moved += _send(order, chain, now)
        except Conflict:
            continue  # another worker moved it in the same moment
        except DomainError as error:
            SaleOrder.objects.filter(pk=order.pk).update(error=error.message[:300])
            log.warning("sale_order_waits", order=order.pk, code=error.code, message=error.message)
    return moved


def refresh(*, chain: Chain, now: datetime) -> None:
    """Copy the contract's view of the rounds into our rows, so that pages need no node."""
    sale = TokenSale(deployments.load().sale)
    for row in SaleRound.objects.all():
        seen = sale.round(chain, row.number)
        row.sold_units, row.carried_units = seen.sold, seen.carried
        row.price_nano_usd = seen.price_nano_usd or None
        row.opened_at, row.closed_at = _moment(seen.opened_at), _moment(seen.closed_at)
        row.checked_at = now
        row.save()


def book(event: ChainEvent, *, now: datetime) -> None:
    """A handler of `RoundOpened`, `RoundClosed` and `UnsoldDecided`: write it down, and the order behind it is done."""
    row = SaleRound.objects.select_for_update().get(pk=int(event.values["round"]))
    if event.name == "RoundOpened":
        row.opened_at, row.price_nano_usd = event.block_time, int(event.values["priceNanoUsd"])
    elif event.name == "RoundClosed":
        row.closed_at = event.block_time
    else:
        names = {number: name for name, number in DECISIONS.items()}
        row.unsold_decision = names.get(int(event.values["decision"]), "other")
        row.unsold_reason = event.values["reason"][:300]
    row.save()
    order = _order_of(event, UNDER_WAY)
    if order is not None:
        transition(order, SALE_ORDER_MOVES, SaleOrderState.DONE, done_at=now, error="")
    audit.record(
        f"sale_{event.name.lower()}", subject=f"sale_round:{row.pk}", actor="chain", transaction=event.transaction_hash
    )


def unbook(event: ChainEvent, *, now: datetime) -> None:
    """Undo `book`: the block vanished although it was final. The same signed transaction is mined again."""
    row = SaleRound.objects.select_for_update().get(pk=int(event.values["round"]))
    if event.name == "RoundOpened":
        row.opened_at = row.closed_at = row.price_nano_usd = None
    elif event.name == "RoundClosed":
        row.closed_at = None
    else:
        row.unsold_decision = row.unsold_reason = ""
    row.save()
    order = _order_of(event, (SaleOrderState.DONE,))
    if order is not None and order.sending_id is not None:
        transition(order, SALE_ORDER_MOVES, SaleOrderState.SENT, done_at=None)


def _order_of(event: ChainEvent, states: tuple[str, ...]) -> SaleOrder | None:
    orders = SaleOrder.objects.filter(sale_round_id=int(event.values["round"]), kind=KIND_OF[event.name])
    return orders.filter(state__in=states).order_by("-pk").first()


def _checked_price(sale_round: SaleRound, price: Decimal) -> int:
    try:
        nano = money.rate_nano(price)
    except ValueError as error:
        raise Invalid(str(error), fields={"price": str(error)}) from None
    cap = price_cap(sale_round)
    if cap is not None and nano > cap:
        message = (
            f"A round costs at most {PRICE_FACTOR} times the one before: {money.format_nano_usd(cap)} for {sale_round}. "
            "The contract would refuse more."
        )
        raise Invalid(message, fields={"price": message})
    return nano


@transaction.atomic
def _order(sale_round: SaleRound, kind: str, by: User | None, now: datetime, **what: Any) -> SaleOrder:
    SaleRound.objects.select_for_update().get(pk=sale_round.pk)
    if SaleOrder.objects.filter(sale_round=sale_round, kind=kind, state__in=UNDER_WAY).exists():
        raise Conflict("The same order is under way already. Wait until the chain has taken it.")
    order = SaleOrder.objects.create(sale_round=sale_round, kind=kind, ordered_by=by, ordered_at=now, **what)
    audit.record("sale_ordered", subject=f"sale_round:{sale_round.pk}", by=by, kind=kind, **what)
    from billing.tasks.money import start
    from billing.tasks.settlement import run_round

    start(run_round)
    return order


def _send(order: SaleOrder, chain: Chain, now: datetime) -> int:
    if order.state == SaleOrderState.SENT:
        return _look_after(order)
    try:
        plan = transactions.plan(call=_call(order), chain=chain, role="sales")
    except Reverted as error:
        transition(order, SALE_ORDER_MOVES, SaleOrderState.FAILED, error=error.message[:300])
        audit.record("sale_order_failed", subject=f"sale_round:{order.sale_round_id}", reason=error.message)
        return 1
    with transaction.atomic():
        row = transactions.build(key=f"sale_order:{order.pk}:{order.sending_id or 0}", plan=plan, now=now)
        transition(order, SALE_ORDER_MOVES, SaleOrderState.SENT, sending=row, error="")
    transactions.send(row=row, chain=chain, now=now)
    return 1


def _look_after(order: SaleOrder) -> int:
    """A transaction refused in its block ends the order; one displaced by another is made anew."""
    if order.sending is None or order.sending.state not in (TransactionState.REVERTED, TransactionState.DISPLACED):
        return 0
    if order.sending.state == TransactionState.DISPLACED:
        transition(order, SALE_ORDER_MOVES, SaleOrderState.ASKED)
        return 1
    transition(
        order,
        SALE_ORDER_MOVES,
        SaleOrderState.FAILED,
        error="The contract refused it in its block. Look, then order anew.",
    )
    return 1


def _call(order: SaleOrder) -> Call:
    sale = TokenSale(deployments.load().sale)
    if order.kind == SaleOrder.OPEN:
        return sale.open_round(price_nano_usd=order.price_nano_usd or 0)
    if order.kind == SaleOrder.CLOSE:
        return sale.close_round()
    return sale.decide_unsold(number=order.sale_round_id, decision=DECISIONS[order.decision], reason=order.reason)


def _moment(seconds: int) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
