"""What Stripe tells us: verified, stored once by the event's id, answered at once, worked on after.

An event is only a hint to look. Its object is read again from the API and the payment brought in line, so events may come twice,
late, or in any order. What the queue loses, the sweep finds: an event without `processed_at`.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import structlog
from django.core.cache import cache
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from billing.models import Payment, StripeEvent
from billing.services import connect_events, topups
from billing.stripe import gateway
from interchain_site.core import audit
from interchain_site.core.errors import DomainError

log = structlog.get_logger()
WATCHED = (
    "checkout.session.",
    "charge.",
    "refund.",
    "payment_intent.succeeded",
    "account.",
    "payout.",
    "transfer.",
    "topup.",
)
CONNECT = ("account", "bank_account", "card", "payout", "transfer", "topup")


@csrf_exempt
@require_POST
def webhook(request: HttpRequest) -> HttpResponse:
    """Stripe's door. 200 once the event is stored, 400 for what Stripe did not sign."""
    try:
        receive(payload=request.body, signature=request.headers.get("Stripe-Signature", ""), now=timezone.now())
    except DomainError as error:
        # Anybody may send here: one row a minute, or a stranger fills the audit trail.
        if cache.add("billing:webhook_refused", 1, timeout=60):
            audit.record("webhook_refused", subject="stripe:webhook", actor="stripe", code=error.code)
        return JsonResponse(error.as_dict(), status=error.status)
    return JsonResponse({"received": True})


def receive(*, payload: bytes, signature: str, now: datetime) -> bool:
    """Verify and store a webhook; returns false when its event was stored before.

    Raises:
        BadSignature: not Stripe's.
    """
    event = gateway.verify_event(payload, signature)
    with transaction.atomic():
        _, new = StripeEvent.objects.get_or_create(
            pk=event.id,
            defaults={
                "type": event.type,
                "object_type": event.object_type,
                "object_id": event.object_id,
                "account": event.account,
                "created_at": event.created_at,
                "received_at": now,
                "processed_at": None if event.type.startswith(WATCHED) else now,
            },
        )
        if new:
            from billing.tasks import money as tasks

            tasks.start(tasks.process_stripe_event, event.id)
    return new


def process(*, event_id: str, now: datetime) -> None:
    """Look at the event's object again and bring our payment in line. Safe to repeat.

    Raises:
        DomainError: with `permanent` false, try again later. The row remembers the reason either way.
    """
    event = StripeEvent.objects.filter(pk=event_id, processed_at=None).first()
    if event is None:
        return
    try:
        _look_again(event, now)
    except DomainError as error:
        # A refusal for good is done with, and stays readable in the admin; anything else comes back with the sweep.
        done = now if error.permanent and not isinstance(error, gateway.StripeNotSetUp) else None
        _note(event, done, error.message)
        raise
    _note(event, now, "")


def _look_again(event: StripeEvent, now: datetime) -> None:
    if event.object_type in CONNECT:
        connect_events.follow(object_type=event.object_type, object_id=event.object_id, account=event.account, now=now)
        return
    reference = gateway.reference_of(event.object_type, event.object_id)
    try:
        payment = Payment.objects.filter(pk=UUID(reference)).first()
    except ValueError:
        payment = None
    if payment is None:
        log.info("stripe_event_of_somebody_else", event_id=event.pk, type=event.type)
        return
    session_id = event.object_id if event.object_type == "checkout.session" else ""
    topups.sync_payment(payment_id=payment.pk, now=now, session_id=session_id)


def _note(event: StripeEvent, processed_at: datetime | None, error: str) -> None:
    StripeEvent.objects.filter(pk=event.pk).update(
        processed_at=processed_at, attempts=event.attempts + 1, error=error[:300]
    )
