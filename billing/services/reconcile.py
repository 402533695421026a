"""Compare all books: ledger, contracts and Stripe. A difference stops what leaves, never what is already running."""

from __future__ import annotations

from billing.models import ReconcileRun
from billing.states import ReconcileOutcome


def withdrawals_blocked() -> str:
    """Return why nothing may leave now (NTC or dollars), or "" when it may.

    The last run that could read everything, or found a difference, decides; a clean run lifts the block. Charging never asks.
    """
    run = ReconcileRun.objects.exclude(outcome=ReconcileOutcome.INCOMPLETE).first()
    if run is None or run.outcome == ReconcileOutcome.CLEAN:
        return ""
    return "Payments out are paused: the last check of our books found a difference. Nothing is lost; staff were told."
