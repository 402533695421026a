"""Periodic work about people's addresses and withdrawals. Thin: rows say what is left to do."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from billing.services import wallet_notices, wallets, withdrawals


@shared_task
def sweep_wallets() -> None:
    """Send notices about new addresses, let addresses and withdrawals go whose waiting time is over."""
    now = timezone.now()
    wallets.activate_due(now=now)
    withdrawals.sweep(now=now)
    wallet_notices.send_due(now=now)
