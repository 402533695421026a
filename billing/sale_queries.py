"""What the sale's pages and API show. Nothing here changes anything, and nothing asks a node."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models import QuerySet, Sum

from billing.chain.states import EventState
from billing.models import ChainEvent, SalePurchase, SaleRound
from billing.sale_tables import PROTOCOL, PROTOCOL_PARTS, PROTOCOL_PERCENT, TABLE_4, Share
from billing.services import sale_payments, token_facts
from billing.services.sale_wallets import paid_words
from billing.services.token_facts import Facts
from billing.states import SalePurchaseState

PAGE = 50
WAITING = (
    SalePurchaseState.AWAITING,
    SalePurchaseState.SENT,
    SalePurchaseState.PAID,
    SalePurchaseState.ALLOCATING,
    SalePurchaseState.REFUNDING,
)


@dataclass(frozen=True)
class RoundCard:
    """A round as the page shows it. Amounts in base units, prices in nano-dollars per NTC.

    Attributes:
        state: `planned`, `open` or `closed`.
        cap: the most it may cost, while its price is not fixed; None when nothing limits it yet.
        left: what can still be bought by card, promised NTC taken off.
    """

    row: SaleRound
    state: str
    cap: int | None
    left: int
    overdue: bool

    @property
    def percent(self) -> int:
        """Sold, in whole percent, never rounded up to 100."""
        return 100 * self.row.sold_units // self.row.offered_units


def round_cards(now: datetime) -> list[RoundCard]:
    """Return the three rounds in order."""
    cards: list[RoundCard] = []
    before: SaleRound | None = None
    for row in SaleRound.objects.all():
        state = "open" if row.open else "closed" if row.closed_at else "planned"
        left = sale_payments.left_units(row) if row.open else row.unsold_units
        cap = before.next_cap_nano_usd if before and state == "planned" else None
        cards.append(RoundCard(row, state, cap, left, overdue=state == "planned" and row.planned_on <= now.date()))
        before = row
    return cards


@dataclass(frozen=True)
class PurchaseView:
    """A purchase with what the chain says about it now.

    Attributes:
        confirmations: of `needed`; None while its transaction is in no block.
    """

    row: SalePurchase
    paid: str
    confirmations: int | None
    needed: int
    block_number: int | None
    waiting: bool

    @property
    def label(self) -> str:
        """The state in words, counted while it is being confirmed."""
        if self.confirmations is not None and self.waiting:
            if settings.ETHEREUM_FINALITY == "finalized":
                return f"In block {self.block_number:,}, waiting until it is final"
            return f"{self.confirmations} of {self.needed} confirmations"
        return self.row.get_state_display()


def purchases_of(user_id: int) -> QuerySet[SalePurchase]:
    """Return a person's purchases, newest first."""
    return SalePurchase.objects.filter(user_id=user_id).select_related("payment", "sale_round", "event", "sending")


def views_of(rows: list[SalePurchase]) -> list[PurchaseView]:
    """Return these purchases as shown, with two queries more, however many they are."""
    facts = token_facts.current()
    hashes = [row.transaction_hash for row in rows if row.transaction_hash and row.event_id is None]
    standing = ChainEvent.objects.filter(state__in=[EventState.SEEN, EventState.FINAL])
    seen = standing.filter(contract="TokenSale", name="Bought", transaction_hash__in=hashes)
    by_hash = {event.transaction_hash: event for event in seen}
    return [_view(row, row.event or by_hash.get(row.transaction_hash), facts) for row in rows]


def _view(row: SalePurchase, event: ChainEvent | None, facts: Facts | None) -> PurchaseView:
    needed, confirmations = settings.ETHEREUM_CONFIRMATIONS, None
    if event is not None and facts is not None:
        confirmations = min(needed, max(0, facts.block_number - event.block_number + 1))
    return PurchaseView(
        row=row,
        paid=paid_words(row, facts),
        confirmations=confirmations,
        needed=needed,
        block_number=event.block_number if event else None,
        waiting=row.state in WAITING,
    )


def sold_units() -> int:
    """Return what all rounds sold so far, in base units."""
    return int(SaleRound.objects.aggregate(units=Sum("sold_units"))["units"] or 0)


def allocation() -> tuple[Share, ...]:
    """Return Table 4, the largest category first."""
    return tuple(sorted(TABLE_4, key=lambda share: -share.percent))


def allocation_sums() -> dict[str, object]:
    """Return what a careful reader adds up in Table 4."""
    return {
        "total": sum(share.percent for share in TABLE_4),
        "protocol": PROTOCOL,
        "protocol_percent": PROTOCOL_PERCENT,
        "protocol_parts": sum(percent for _, percent in PROTOCOL_PARTS),
        "read_as_item": sum(share.percent for share in TABLE_4) + PROTOCOL_PERCENT,
    }
