"""Allowed moves of an epoch, of a chain transaction, of a claim and of a withdrawal, and the one function that makes them."""

from __future__ import annotations

from typing import Any

from django.db import models

from interchain_site.core.errors import Conflict
from interchain_site.core.states import check_move, compare_and_set


class EpochState(models.TextChoices):
    OPEN = "open", "Collecting"
    CLOSED = "closed", "Computed"
    POSTED = "posted", "Sent to Ethereum"
    MINED = "mined", "In a block"
    FINAL = "final", "Final"
    VETOED = "vetoed", "Vetoed"


class TransactionState(models.TextChoices):
    BUILT = "built", "Signed and stored"
    SENT = "sent", "Sent"
    MINED = "mined", "In a block"
    FINAL = "final", "Final"
    REVERTED = "reverted", "Refused by the contract"
    DISPLACED = "displaced", "Displaced: another transaction used its nonce"


class EventState(models.TextChoices):
    SEEN = "seen", "Seen"
    FINAL = "final", "Final"
    DOUBTED = "doubted", "Final, but not on the chain any more"
    VANISHED = "vanished", "Vanished"


class ClaimState(models.TextChoices):
    REQUESTED = "requested", "Asked for"
    SENT = "sent", "Sent to Ethereum"
    FINAL = "final", "Paid"
    FAILED = "failed", "Failed"


class WithdrawalState(models.TextChoices):
    ASKED = "asked", "Waits for your confirmation"
    HELD = "held", "Waits, because the address is new"
    CONFIRMED = "confirmed", "Goes into the next epoch"
    COMMITTED = "committed", "In an epoch"
    CLAIMABLE = "claimable", "Ready to be paid"
    PAID = "paid", "Paid"
    CANCELLED = "cancelled", "Cancelled"


EPOCH_MOVES: dict[str, set[str]] = {
    EpochState.OPEN: {EpochState.CLOSED},
    EpochState.CLOSED: {EpochState.POSTED},
    EpochState.POSTED: {EpochState.MINED, EpochState.CLOSED},  # back to closed: the contract refused the transaction
    EpochState.MINED: {EpochState.FINAL, EpochState.VETOED, EpochState.POSTED},  # back to posted: its block vanished
    EpochState.FINAL: {EpochState.POSTED},  # its block vanished although it was final
    EpochState.VETOED: set(),
}
TRANSACTION_MOVES: dict[str, set[str]] = {
    TransactionState.BUILT: {TransactionState.SENT, TransactionState.MINED, TransactionState.DISPLACED},
    TransactionState.SENT: {TransactionState.MINED, TransactionState.DISPLACED},
    TransactionState.MINED: {TransactionState.FINAL, TransactionState.REVERTED, TransactionState.SENT},
    # Back to sent: the chain itself lost the block, for instance a local node killed before it saved its state.
    TransactionState.FINAL: {TransactionState.SENT},
    TransactionState.REVERTED: {TransactionState.SENT},
    # A reorganisation can also give the nonce back.
    TransactionState.DISPLACED: {TransactionState.SENT},
}
NEVER_DONE = (TransactionState.REVERTED, TransactionState.DISPLACED)  # whoever wanted it makes a new transaction
EVENT_MOVES: dict[str, set[str]] = {
    EventState.SEEN: {EventState.FINAL, EventState.VANISHED},
    EventState.FINAL: {EventState.DOUBTED},  # a reorganisation deeper than what we call final
    EventState.DOUBTED: {EventState.FINAL, EventState.VANISHED},
    EventState.VANISHED: {EventState.SEEN},
}
CLAIM_MOVES: dict[str, set[str]] = {
    ClaimState.REQUESTED: {ClaimState.SENT, ClaimState.FINAL, ClaimState.FAILED},
    ClaimState.SENT: {ClaimState.FINAL, ClaimState.FAILED, ClaimState.REQUESTED},  # sent anew: it was refused
    ClaimState.FINAL: {ClaimState.SENT, ClaimState.FAILED},  # its block vanished although it was final
    ClaimState.FAILED: set(),
}
WITHDRAWAL_MOVES: dict[str, set[str]] = {
    WithdrawalState.ASKED: {WithdrawalState.HELD, WithdrawalState.CONFIRMED, WithdrawalState.CANCELLED},
    WithdrawalState.HELD: {WithdrawalState.CONFIRMED, WithdrawalState.CANCELLED},
    WithdrawalState.CONFIRMED: {WithdrawalState.COMMITTED, WithdrawalState.CANCELLED},
    # Back to confirmed: a guardian vetoed its epoch.
    WithdrawalState.COMMITTED: {WithdrawalState.CLAIMABLE, WithdrawalState.CONFIRMED},
    WithdrawalState.CLAIMABLE: {WithdrawalState.PAID, WithdrawalState.CONFIRMED},
    # Back to claimable: the block of its payment vanished.
    WithdrawalState.PAID: {WithdrawalState.CLAIMABLE},
    WithdrawalState.CANCELLED: set(),
}


def transition(row: models.Model, table: dict[str, set[str]], to: str, **changes: Any) -> None:
    """Move a row to another state and set other fields with it, if it is still in the state the caller saw.

    Raises:
        Conflict: the table does not allow the move, or somebody else moved the row meanwhile.
    """
    seen = str(row.__dict__["state"])
    check_move(table, seen, to)
    if not compare_and_set(row, seen={"state": seen}, changes={"state": to, **changes}):
        raise Conflict
