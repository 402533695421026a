"""Allowed moves of a payment and of a dispute, in one table each."""

from __future__ import annotations

from django.db import models

from interchain_site.core.errors import Conflict


class PaymentState(models.TextChoices):
    CREATED = "created", "Being prepared"
    OPEN = "open", "Waiting for your card"
    PAID = "paid", "Paid"
    EXPIRED = "expired", "Not paid in time"
    REFUNDED = "refunded", "Refunded"


class DisputeState(models.TextChoices):
    SEEN = "seen", "Noted"
    OPEN = "open", "Disputed"
    WON = "won", "Won"
    LOST = "lost", "Lost"


class ReconcileOutcome(models.TextChoices):
    CLEAN = "clean", "All books agree"
    DIFFERENCE = "difference", "Differences"
    INCOMPLETE = "incomplete", "Not everything could be read"


PAYMENT_MOVES: dict[str, set[str]] = {
    PaymentState.CREATED: {PaymentState.OPEN, PaymentState.PAID, PaymentState.EXPIRED},
    PaymentState.OPEN: {PaymentState.PAID, PaymentState.EXPIRED},
    PaymentState.PAID: {PaymentState.REFUNDED},
    PaymentState.EXPIRED: {PaymentState.PAID},  # paid in the same second it expired: Stripe has the last word
    PaymentState.REFUNDED: {PaymentState.PAID},  # the bank sent a refund back
}
DISPUTE_MOVES: dict[str, set[str]] = {
    DisputeState.SEEN: {DisputeState.OPEN, DisputeState.WON, DisputeState.LOST},
    DisputeState.OPEN: {DisputeState.WON, DisputeState.LOST},
    DisputeState.WON: set(),
    DisputeState.LOST: {DisputeState.WON},  # Stripe may overturn a lost dispute
}


def check_move(table: dict[str, set[str]], old: str, new: str) -> None:
    """Raise `Conflict` unless the table allows the move."""
    if new not in table[old]:
        raise Conflict(f"A move from {old} to {new} is not allowed.")
