"""What periodic tasks pick up when a message, a webhook or a process got lost. Each row in its own try; the round goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import structlog
from django.db.models import Q

from billing.models import Dispute, Payment, StripeEvent
from billing.services import receipts, topups
from billing.states import DisputeState, PaymentState
from interchain_site.core.errors import DomainError

log = structlog.get_logger()
BATCH = 200
EVENT_PATIENCE = timedelta(seconds=10)  # the queue is faster, normally
CHECK_EVERY = timedelta(seconds=60)
DISPUTE_EVERY = timedelta(hours=1)
RECEIPT_WITHIN = timedelta(days=2)


def sweep_payments(*, now: datetime) -> int:
    """Do everything about payments that is overdue; returns how many rows were handled without an error."""
    return sum(attempt(job) for job in [*_events(now), *_expired(now), *_open(now), *_disputed(now), *_receipts(now)])


def _events(now: datetime) -> Iterable[Callable[[], object]]:
    from billing.stripe import webhooks

    waiting = StripeEvent.objects.filter(processed_at=None, received_at__lte=now - EVENT_PATIENCE)
    for pk in waiting.order_by("attempts", "received_at").values_list("pk", flat=True)[:BATCH]:
        yield partial(webhooks.process, event_id=pk, now=now)


def _expired(now: datetime) -> Iterable[Callable[[], object]]:
    states = [PaymentState.CREATED, PaymentState.OPEN]
    for pk in _payments(Q(state__in=states, expires_at__lte=now)):
        yield partial(topups.expire_unpaid, payment_id=pk, now=now)


def _open(now: datetime) -> Iterable[Callable[[], object]]:
    due = Q(checked_at=None) | Q(checked_at__lte=now - CHECK_EVERY)
    waiting = Q(state=PaymentState.OPEN, expires_at__gt=now, created_at__lte=now - CHECK_EVERY)
    for pk in _payments(due & (waiting | Q(state=PaymentState.PAID, credited_at=None))):
        yield partial(topups.sync_payment, payment_id=pk, now=now)


def _disputed(now: datetime) -> Iterable[Callable[[], object]]:
    disputes = Dispute.objects.filter(
        state__in=[DisputeState.SEEN, DisputeState.OPEN], payment__checked_at__lte=now - DISPUTE_EVERY
    )
    for pk in disputes.values_list("payment_id", flat=True).distinct()[:BATCH]:
        yield partial(topups.sync_payment, payment_id=pk, now=now)


def _receipts(now: datetime) -> Iterable[Callable[[], object]]:
    for pk in _payments(Q(receipt_sent_at=None, credited_at__gt=now - RECEIPT_WITHIN)):
        yield partial(receipts.send_receipt, payment_id=pk, now=now)


def _payments(query: Q) -> Iterable[UUID]:
    return Payment.objects.filter(query).order_by("created_at").values_list("pk", flat=True)[:BATCH]


def attempt(job: Callable[[], object]) -> int:
    """Do a job of a sweep; returns 1, or 0 when it failed. The next round tries again."""
    try:
        job()
    except DomainError as error:
        log.warning("sweep_failed", code=error.code, message=error.message)
        return 0
    except Exception:
        log.exception("sweep_failed")
        return 0
    return 1
