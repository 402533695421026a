"""What the pages about wallets, deposits and withdrawals read. Amounts in base units."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models import QuerySet

from billing import settlement_queries
from billing.chain.states import EventState
from billing.models import AutoClaim, ChainBlock, ChainEvent, SentDeposit, UnassignedDeposit, Wallet, Withdrawal
from billing.services import auto_claims
from billing.services.payout_planner import Plan
from billing.settlement_queries import WalletBalance

PAGE = 50


@dataclass(frozen=True)
class WalletCard:
    """A wallet with what can be claimed from it, and whether we send it."""

    balance: WalletBalance
    plan: Plan | None

    @property
    def wallet(self) -> Wallet:
        return self.balance.wallet


@dataclass(frozen=True)
class DepositRow:
    """A deposit on its way or done.

    Attributes:
        confirmations: blocks on it so far, this one included; at most `needed`.
    """

    transaction_hash: str
    units: int
    at: datetime
    state: str
    confirmations: int = 0
    needed: int = 0


def wallet_cards(user_id: int, *, now: datetime) -> list[WalletCard]:
    """Return a person's wallets that matter: the active and the waiting one, and those with something to claim."""
    cards = []
    for balance in settlement_queries.wallet_balances(user_id):
        plan = None
        if balance.claimable_units and not balance.under_way:
            plan = auto_claims.plan_for(wallet_id=balance.wallet.pk, now=now)
        cards.append(WalletCard(balance, plan))
    return cards


def addresses_of(user_id: int) -> list[Wallet]:
    """Return the addresses a person can withdraw to, the active one first."""
    return list(Wallet.objects.filter(user_id=user_id, stopped_at=None).order_by("-active", "-linked_at"))


def threshold_of(user_id: int) -> int | None:
    """Return from how many base units on this person's payouts are sent by themselves, or None for never."""
    return AutoClaim.objects.filter(user_id=user_id).values_list("threshold_units", flat=True).first()


def withdrawals_of(user_id: int, *, size: int = PAGE) -> list[Withdrawal]:
    """Return a person's newest withdrawals."""
    found = Withdrawal.objects.filter(user_id=user_id).select_related("wallet", "epoch")
    return list(found[:size])


def deposits_of(user_id: int, *, reference: str, size: int = PAGE) -> list[DepositRow]:
    """Return a person's deposits, newest first: sent from a browser, seen on the chain, credited."""
    events = list(_deposited(reference)[:size])
    given = UnassignedDeposit.objects.filter(user_id=user_id).select_related("event").order_by("-id")[:size]
    events += [deposit.event for deposit in given]
    known = {event.transaction_hash for event in events if event.state != EventState.VANISHED}
    sent = SentDeposit.objects.filter(user_id=user_id).exclude(transaction_hash__in=known)
    head = ChainBlock.objects.order_by("-number").values_list("number", flat=True).first() or 0
    rows = [_row(event, head) for event in events if event.state != EventState.VANISHED]
    rows += [DepositRow(row.transaction_hash, row.units, row.sent_at, "sent") for row in sent[:size]]
    return sorted(rows, key=lambda row: row.at, reverse=True)[:size]


def _deposited(reference: str) -> QuerySet[ChainEvent]:
    return ChainEvent.objects.filter(contract="Settlement", name="Deposited", values__account=reference)


def _row(event: ChainEvent, head: int) -> DepositRow:
    needed = settings.ETHEREUM_CONFIRMATIONS
    done = event.state == EventState.FINAL
    deep = needed if done else max(0, min(head - event.block_number + 1, needed - 1))
    state = "credited" if done else "confirming"
    return DepositRow(event.transaction_hash, int(event.values["amount"]), event.block_time, state, deep, needed)
