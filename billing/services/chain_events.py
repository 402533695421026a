"""Follow what happens on the chain, and write down what it means once it cannot vanish any more.

The chain worker calls `watch` in each round. Reading is `chain_reading`'s; what an event means is known by its handler:
`HANDLERS` is the whole table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Protocol

import structlog
from django.db import transaction

from billing.chain import finality
from billing.chain.errors import BadAnswer
from billing.chain.states import EVENT_MOVES, EventState, transition
from billing.chain.types import Chain
from billing.models import ChainEvent
from billing.services import chain_reading, claims, deposits, sale_purchases, sale_rounds
from interchain_site.core import audit
from interchain_site.core.alerts import clear_alert, raise_alert
from interchain_site.core.errors import DomainError

log = structlog.get_logger(__name__)


class Handler(Protocol):
    """What an event means. A module with these two functions is one. Both run inside a database transaction."""

    def book(self, event: ChainEvent, *, now: datetime) -> None:
        """Write down an event that is final; called once for it, together with its move to `final`.

        Use `event.key` in the keys of ledger postings. An error leaves the event as it was; it is tried again.
        """
        ...

    def unbook(self, event: ChainEvent, *, now: datetime) -> None:
        """Reverse exactly what `book` did: the event vanished although it was final."""
        ...


HANDLERS: dict[tuple[str, str], Handler] = {
    ("Settlement", "Deposited"): deposits,
    ("Settlement", "Claimed"): claims,
    ("TokenSale", "Bought"): sale_purchases,
    ("TokenSale", "RoundOpened"): sale_rounds,
    ("TokenSale", "RoundClosed"): sale_rounds,
    ("TokenSale", "UnsoldDecided"): sale_rounds,
}


def watch(*, chain: Chain, now: datetime) -> int:
    """Do one look at the chain; returns how many events were booked or unbooked. Any two may overlap or be cut short.

    1. Read the new events of all our contracts, and notice those that vanished (`chain_reading.read`).
    2. Events that vanished although they were final: once the blocks that replaced theirs are final too, undo them.
    3. Book what is final, in the chain's order. One event that cannot be booked does not stop the others.

    Raises:
        ChainError: the node cannot be used, or believed; nothing was booked from it. The next round goes on.
    """
    chain_reading.read(chain=chain, now=now)
    final = finality.final_block(chain)
    _make_sure(chain, final, now)
    gone = ChainEvent.objects.filter(state=EventState.DOUBTED, block_number__lte=final)
    moved = sum(_attempt(event, unbook, now) for event in gone.order_by("-block_number", "-block_index"))
    due = ChainEvent.objects.filter(state=EventState.SEEN, block_number__lte=final)
    return moved + sum(_attempt(event, book, now) for event in due.order_by("block_number", "block_index"))


def book(event_id: int, now: datetime) -> bool:
    """Let the handler write an event down and make it final, both or neither; false when another worker did."""
    with transaction.atomic():
        event = ChainEvent.objects.select_for_update().get(pk=event_id)
        before = ChainEvent.objects.filter(transaction_hash=event.transaction_hash, log_index=event.log_index)
        if event.state != EventState.SEEN or before.filter(state=EventState.DOUBTED).exists():
            return False  # what the same transaction said before a reorganisation is undone first
        handler = HANDLERS.get((event.contract, event.name))
        if handler is not None:
            handler.book(event, now=now)
        transition(event, EVENT_MOVES, EventState.FINAL, booked_at=now, error="")
    return True


def unbook(event_id: int, now: datetime) -> bool:
    """Let the handler reverse what it wrote; false when another worker did, or the event came back."""
    with transaction.atomic():
        event = ChainEvent.objects.select_for_update().get(pk=event_id)
        if event.state != EventState.DOUBTED:
            return False
        handler = HANDLERS.get((event.contract, event.name))
        if handler is not None:
            handler.unbook(event, now=now)
        facts = {"booked_at": None, "unbooked": event.unbooked + 1, "error": ""}
        transition(event, EVENT_MOVES, EventState.VANISHED, **facts)
        audit.record("chain_event_unbooked", subject=f"chain_event:{event.pk}", transaction=event.transaction_hash)
    if handler is not None:
        raise_alert(
            code="final_event_vanished",
            subject=f"chain_event:{event.pk}",
            message=f"{event} was final and has vanished in a deep reorganisation; what it had booked is reversed.",
            mend="Look at the people it concerns: what they spent meanwhile is now a debt. Raise ETHEREUM_CONFIRMATIONS.",
        )
    return True


def _attempt(event: ChainEvent, do: Callable[[int, datetime], bool], now: datetime) -> int:
    """Do it to one event; say what is wrong where staff look, so that the others go on. Returns how many moved."""
    subject = f"chain_event:{event.pk}"
    try:
        moved = do(event.pk, now)
    except Exception as error:
        if not isinstance(error, DomainError):
            log.exception("chain_event_broke", chain_event=event.pk)
        reason = error.message if isinstance(error, DomainError) else f"a fault of the program ({type(error).__name__})"
        ChainEvent.objects.filter(pk=event.pk).update(error=reason[:300])
        raise_alert(
            code="chain_event_waits",
            subject=subject,
            message=f"{event} (transaction {event.transaction_hash}) cannot be written down: {reason}",
            mend="Mend the cause; it is tried again in every round, and nothing is lost meanwhile.",
        )
        return 0
    clear_alert(code="chain_event_waits", subject=subject)  # `event.error` may have been wiped when it was read again
    return int(moved)


def _make_sure(chain: Chain, final: int, now: datetime) -> None:
    """See that the blocks of what is about to be booked are what both nodes have.

    Raises:
        BadAnswer: the node itself has another block there now.
        NodesDisagree, ChainUnavailable: see `finality.make_sure`.
    """
    due = ChainEvent.objects.filter(state=EventState.SEEN, block_number__lte=final)
    blocks: Iterable[tuple[int, str]] = due.order_by().values_list("block_number", "block_hash").distinct()
    for number, known in blocks:
        found = chain.block(number)
        if found is None or found.hash != known:
            chain_reading.forget(chain=chain, above=number - 1, now=now)
            raise BadAnswer(f"The Ethereum node says two things about block {number}. It is read again.")
        finality.make_sure(number=number, hash=known)
