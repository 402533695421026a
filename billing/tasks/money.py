"""Periodic work of the ledger, the desk and Stripe, and what a webhook sets going. Thin: load by id, call one service.

Every one of them may run twice or never: rows say what is left to do, and `sweep_payments` finds them.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import structlog
from celery import Task, shared_task
from django.db import transaction
from django.utils import timezone

from billing.services import (
    cash_out_mails,
    cash_out_steps,
    cash_out_sweeps,
    charges,
    receipts,
    stripe_books,
    sweeps,
)
from interchain_site.core.errors import DomainError

log = structlog.get_logger()
RETRY_SECONDS = 5


def start(task: Any, *args: str) -> None:
    """Queue a task once the current transaction has committed; without a queue the sweep does it later."""
    transaction.on_commit(partial(_send, task, args))


@shared_task(bind=True, max_retries=5)
def process_stripe_event(self: Task[..., None], event_id: str) -> None:
    """Work on one stored webhook."""
    from billing.stripe import webhooks

    try:
        webhooks.process(event_id=event_id, now=timezone.now())
    except DomainError as error:
        if error.permanent:
            log.error("stripe_event_refused", event_id=event_id, message=error.message)
            return
        raise self.retry(exc=error, countdown=RETRY_SECONDS) from error


@shared_task
def send_receipt(payment_id: str) -> None:
    """E-mail one receipt."""
    receipts.send_receipt(payment_id=UUID(payment_id), now=timezone.now())


@shared_task
def release_earnings() -> None:
    """Release what has outlasted its hold."""
    charges.release_matured_earnings(now=timezone.now())


@shared_task
def sweep_payments() -> None:
    """Pick up lost webhooks, forgotten checkouts and unsent receipts."""
    sweeps.sweep_payments(now=timezone.now())


@shared_task(bind=True, max_retries=5)
def advance_cash_out(self: Task[..., None], cash_out_id: str) -> None:
    """Take the next steps of one cash-out."""
    try:
        cash_out_steps.advance(cash_out_id=UUID(cash_out_id), now=timezone.now())
    except DomainError as error:
        if error.permanent:
            log.error("cash_out_stopped", cash_out=cash_out_id, message=error.message)
            return
        raise self.retry(exc=error, countdown=RETRY_SECONDS) from error


@shared_task
def tell_of_cash_out(cash_out_id: str) -> None:
    """E-mail a person how a cash-out stands."""
    cash_out_mails.tell(cash_out_id=UUID(cash_out_id), now=timezone.now())


@shared_task
def sweep_cash_outs() -> None:
    """Pick up cash-outs whose messages got lost, ended quotes and unsent mails."""
    cash_out_sweeps.sweep(now=timezone.now())


@shared_task
def read_stripe_books() -> None:
    """Book Stripe's fees and pick up refunds, disputes and company transfers no webhook told of."""
    try:
        stripe_books.read(now=timezone.now())
    except DomainError as error:
        log.warning("stripe_books_not_read", code=error.code, message=error.message)


def _send(task: Any, args: tuple[str, ...]) -> None:
    try:
        task.apply_async(args, retry=False)
    except Exception as error:
        log.warning("queue_unreachable", task=task.name, error=type(error).__name__)
