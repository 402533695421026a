"""Periodic proofs, on the chain worker's queue: nothing is booked from the chain while books are compared."""

from __future__ import annotations

import structlog
from celery import shared_task
from django.utils import timezone

from billing.chain import client
from billing.services import reconcile, reserves
from interchain_site.core.alerts import clear_alert, raise_alert
from interchain_site.core.errors import DomainError

log = structlog.get_logger(__name__)
LATE = "reserves_late"
PATIENCE_SECONDS = 6 * 3_600


@shared_task
def take_reserves_if_due() -> None:
    """Take a reserve snapshot when the newest is too old; when the chain cannot be read, the next look tries again."""
    if reserves.is_due(now=timezone.now()):
        take_reserves_now()


@shared_task
def take_reserves_now() -> None:
    """Take a reserve snapshot, whatever the schedule says."""
    now = timezone.now()
    try:
        reserves.take_snapshot(now=now, chain=client.connect())
        clear_alert(code=LATE)
    except DomainError as error:
        log.warning("reserves_wait", code=error.code, message=error.message)
        raise_alert(
            code=LATE,
            message=f"The reserves page is out of date: {error.message}",
            mend="Make the Ethereum node answer again; the snapshot is then taken by itself.",
            patience_seconds=PATIENCE_SECONDS,
        )


@shared_task
def reconcile_if_due() -> None:
    """Compare all books when the last comparison is too old."""
    if reconcile.is_due(now=timezone.now()):
        reconcile_now()


@shared_task
def reconcile_now() -> None:
    """Compare all books, whatever the schedule says."""
    now = timezone.now()
    try:
        chain, unread = client.connect(), ""
    except DomainError as error:
        chain, unread = None, error.message
    reconcile.run(now=now, chain=chain, unread=unread)
