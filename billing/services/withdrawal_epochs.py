"""Withdrawals and epochs: taken up when one closes, returned when one is vetoed, followed until they are paid.

Called by `settlement` and `vetoes` inside their transactions, so that the ledger and the tree move together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from billing import settlement_queries as queries
from billing.chain.states import WITHDRAWAL_MOVES, ClaimState, WithdrawalState, transition
from billing.models import Account, Claim, Epoch, PayoutLeaf, Wallet, Withdrawal
from billing.services import accounts, reconcile, withdrawals
from billing.services.ledger import Line, Posting
from interchain_site.core import audit
from interchain_site.core.errors import Conflict

IN_DEBT = "You owe NTC to Interchain; they were repaid from it."
STOPPED = "You stopped this address."


@dataclass(frozen=True)
class TakenUp:
    """What an epoch takes up: base units by wallet, the postings that set them down, and the rows."""

    units: dict[Wallet, int]
    postings: list[Posting]
    rows: list[Withdrawal]


def take_up(epoch: Epoch, *, now: datetime) -> TakenUp:
    """Return the confirmed withdrawals for an epoch that is being closed, locked; `committed` writes the rows.

    While payouts are paused none is taken, and they wait. Who owes NTC meanwhile gets them back, and repays with them; what
    a veto returned goes back to its owner if its address was stopped meanwhile.
    """
    if reconcile.withdrawals_blocked():
        return TakenUp({}, [], [])
    withdrawals.sweep(now=now)
    _cancel_what_cannot_leave(now)
    found = Withdrawal.objects.select_for_update(of=("self",)).select_related("wallet")
    rows = list(found.filter(state=WithdrawalState.CONFIRMED, wallet__stopped_at=None).order_by("pk"))
    units: dict[Wallet, int] = defaultdict(int)
    for row in rows:
        units[row.wallet] += row.units
    postings = _postings(rows, epoch, now, back=False)
    return TakenUp(dict(units), postings, rows)


def committed(taken: TakenUp, epoch: Epoch) -> None:
    """Note that an epoch commits to what it took up."""
    for row in taken.rows:
        transition(row, WITHDRAWAL_MOVES, WithdrawalState.COMMITTED, epoch=epoch)
        audit.record("withdrawal_committed", subject=withdrawals.subject(row), epoch=epoch.sequence)


def give_back(epoch: Epoch, *, now: datetime) -> list[Posting]:
    """Return the postings that undo an epoch's withdrawals after its veto; they go into a later epoch, or are cancelled."""
    found = Withdrawal.objects.select_for_update(of=("self",)).select_related("wallet")
    # Claimable, if the epoch was final before a deep reorganisation gave the guardian another chance.
    states = (WithdrawalState.COMMITTED, WithdrawalState.CLAIMABLE)
    rows = list(found.filter(epoch=epoch, state__in=states).order_by("pk"))
    postings = _postings(rows, epoch, now, back=True)
    for row in rows:
        changes = {"epoch": None, "returned": row.returned + 1}
        transition(row, WITHDRAWAL_MOVES, WithdrawalState.CONFIRMED, **changes)
        audit.record("withdrawal_returned", subject=withdrawals.subject(row), epoch=epoch.sequence)
    return postings


def follow(*, now: datetime) -> int:
    """Bring withdrawals in line with epochs and payments; returns how many moved. Safe to repeat.

    1. In an epoch that is final, or that a final one carries on: ready to be paid.
    2. Its wallet was paid all its leaf holds: paid, with the transaction's hash.
    3. Paid, but the payment's block vanished: ready to be paid again.
    """
    moved = 0
    final = queries.newest_final_epoch()
    if final is not None:
        ready = Withdrawal.objects.filter(state=WithdrawalState.COMMITTED, epoch__sequence__lte=final.sequence)
        moved += ready.update(state=WithdrawalState.CLAIMABLE)
    waiting = list(Withdrawal.objects.filter(state=WithdrawalState.CLAIMABLE).select_related("wallet"))
    paid = _payments(waiting)
    for row in waiting:
        payment = paid.get((row.wallet_id, row.epoch_id or 0))
        if payment is not None:
            moved += _paid(row, payment, now)
    return moved


def _paid(row: Withdrawal, payment: Claim, now: datetime) -> int:
    facts = {"paid_at": payment.final_at or now, "transaction_hash": payment.transaction_hash}
    try:
        transition(row, WITHDRAWAL_MOVES, WithdrawalState.PAID, **facts)
    except Conflict:
        return 0  # another worker saw it in the same moment
    audit.record("withdrawal_paid", subject=withdrawals.subject(row), transaction=payment.transaction_hash)
    return 1


def unpaid_again(*, wallet: Wallet, paid_units: int) -> int:
    """Put withdrawals back to claimable whose payment vanished from the chain; returns how many.

    Args:
        paid_units: what the wallet was paid in all, without the payment that vanished.
    """
    leaves = PayoutLeaf.objects.filter(wallet=wallet, cumulative_units__gt=paid_units).values("epoch_id")
    rows = Withdrawal.objects.filter(wallet=wallet, state=WithdrawalState.PAID, epoch_id__in=leaves)
    return rows.update(state=WithdrawalState.CLAIMABLE, paid_at=None, transaction_hash="")


def _payments(rows: Sequence[Withdrawal]) -> dict[tuple[int, int], Claim]:
    """Return, by wallet and epoch, the first payment that covers the wallet's leaf of that epoch."""
    wallets = {row.wallet_id for row in rows}
    claims = Claim.objects.filter(wallet_id__in=wallets, state=ClaimState.FINAL).order_by("cumulative_units")
    by_wallet: dict[int, list[Claim]] = defaultdict(list)
    for claim in claims:
        by_wallet[claim.wallet_id].append(claim)
    found = {}
    leaves = PayoutLeaf.objects.filter(wallet_id__in=wallets, epoch_id__in={row.epoch_id for row in rows})
    for leaf in leaves:
        for claim in by_wallet[leaf.wallet_id]:
            if claim.cumulative_units >= leaf.cumulative_units:
                found[leaf.wallet_id, leaf.epoch_id] = claim
                break
    return found


def _cancel_what_cannot_leave(now: datetime) -> None:
    owing = Account.objects.filter(kind=accounts.SHORTFALL, balance__lt=0, user__isnull=False).values("user_id")
    confirmed = Withdrawal.objects.filter(state=WithdrawalState.CONFIRMED).order_by("pk")
    stopped, of_debtors = confirmed.exclude(wallet__stopped_at=None), confirmed.filter(user_id__in=owing)
    for rows, reason in ((stopped, STOPPED), (of_debtors, IN_DEBT)):
        for pk in list(rows.values_list("pk", flat=True)):
            withdrawals.cancel_because(withdrawal_id=pk, reason=reason, now=now)


def _postings(rows: Sequence[Withdrawal], epoch: Epoch, now: datetime, *, back: bool) -> list[Posting]:
    kinds = (accounts.WITHDRAWING, accounts.SETTLED)
    ids = accounts.user_accounts([(row.user_id, kind) for row in rows for kind in kinds])
    postings = []
    for row in rows:
        units = -row.units if back else row.units
        lines = (
            Line(ids[row.user_id, accounts.WITHDRAWING], -units),
            Line(ids[row.user_id, accounts.SETTLED], units),
        )
        postings.append(
            Posting(
                key=f"epoch:{epoch.sequence}:{'return' if back else 'settle'}_withdrawal:{row.pk}",
                kind="withdrawal_returned" if back else "withdrawal_settled",
                lines=lines,
                effective_at=now,
                memo=f"Epoch {epoch.sequence} was vetoed; it goes into a later one"
                if back
                else f"Withdrawal, in epoch {epoch.sequence}",
                reference=withdrawals.subject(row),
            )
        )
    return postings
