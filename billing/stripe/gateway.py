"""Stripe, as the rest of the product sees it. Only this module imports Stripe's SDK; callers never see its objects or errors.

Every answer is one of the frozen types below. Every failure is one of:

- `StripeUnavailable` (`permanent` false): no answer, a rate limit, or Stripe's own trouble. The same call may work later; a call that
  changes something carries an idempotency key, so repeating it is safe.
- `StripeRefused` (`permanent` true): Stripe understood and said no (a wrong id, an amount above what is left).
- `StripeNotSetUp` (`permanent` true): no key, or a key Stripe does not accept.
- `BadSignature`: a webhook that Stripe did not sign.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import stripe
from django.conf import settings
from stripe import StripeClient

from billing.states import DisputeState
from interchain_site.core.errors import DomainError

TIMEOUT_SECONDS = 10
SIGNATURE_TOLERANCE_SECONDS = 300
LEAST_SESSION_SECONDS = 31 * 60  # Stripe accepts no end nearer than 30 minutes; one more for clocks that differ

_DISPUTE_STATES = {
    "needs_response": DisputeState.OPEN,
    "under_review": DisputeState.OPEN,
    "won": DisputeState.WON,
    "lost": DisputeState.LOST,
    "charge_refunded": DisputeState.WON,  # closed because we refunded; the refund itself is counted as such
}


class StripeUnavailable(DomainError):
    code, status, permanent = "stripe_unavailable", 503, False
    message = "Card payments are not answering. Nothing was charged; try again in a moment."


class StripeRefused(DomainError):
    code, status = "stripe_refused", 400
    message = "Stripe did not accept this."


class StripeNotSetUp(DomainError):
    code, status = "stripe_not_set_up", 503
    message = "Card payments are not set up. An administrator sets STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET."


class BadSignature(DomainError):
    code, status = "bad_signature", 400
    message = "This was not signed by Stripe with our webhook secret."


@dataclass(frozen=True)
class NewCheckout:
    """What to sell: `cents` of USD; `reference` is our payment's id and makes the call idempotent.

    Everything here must be the same in a repeated call, `expires_at` too; it is `LEAST_SESSION_SECONDS` ahead at least.
    """

    reference: str
    cents: int
    description: str
    email: str
    success_url: str
    cancel_url: str
    expires_at: datetime


@dataclass(frozen=True)
class DisputeNews:
    id: str
    cents: int
    state: str
    reason: str
    opened_at: datetime


@dataclass(frozen=True)
class CheckoutNews:
    """A checkout as Stripe has it now, with what became of the money."""

    id: str
    url: str
    reference: str
    status: str  # open, complete or expired
    paid: bool
    cents: int
    currency: str
    payment_intent_id: str
    refunded_cents: int = 0
    country: str = ""  # where the card was issued, two letters
    disputes: tuple[DisputeNews, ...] = ()


@dataclass(frozen=True)
class Event:
    """A verified webhook: which object to look at again."""

    id: str
    type: str
    object_type: str
    object_id: str
    created_at: datetime


def create_checkout(new: NewCheckout) -> CheckoutNews:
    """Open a hosted Checkout page for one payment by card; the same `reference` gives the same page."""
    params: Any = {
        "mode": "payment",
        "payment_method_types": ["card"],
        "client_reference_id": new.reference,
        "customer_email": new.email,
        "success_url": new.success_url,
        "cancel_url": new.cancel_url,
        "expires_at": int(new.expires_at.timestamp()),
        "metadata": {"payment_id": new.reference},
        "payment_intent_data": {"metadata": {"payment_id": new.reference}, "description": new.description},
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": "usd",
                    "unit_amount": new.cents,
                    "product_data": {"name": new.description},
                },
            }
        ],
    }
    with _errors():
        created = _client().v1.checkout.sessions.create(params, {"idempotency_key": f"checkout:{new.reference}"})
        return _checkout(created.to_dict())


def read_checkout(session_id: str) -> CheckoutNews:
    """Read a checkout again, with its refunds and disputes."""
    with _errors():
        client = _client()
        session = client.v1.checkout.sessions.retrieve(
            session_id, {"expand": ["payment_intent.latest_charge"]}
        ).to_dict()
        intent = session.get("payment_intent")
        disputes = ()
        if intent and (intent.get("latest_charge") or {}).get("disputed"):
            disputes = client.v1.disputes.list({"payment_intent": intent["id"], "limit": 100}).to_dict()["data"]
        return _checkout(session, disputes)


def expire_checkout(session_id: str) -> None:
    """Close a checkout nobody paid; one that was paid or closed meanwhile is left as it is."""
    try:
        with _errors():
            _client().v1.checkout.sessions.expire(session_id)
    except StripeRefused:
        if read_checkout(session_id).status == "open":
            raise


def refund(*, payment_intent_id: str, cents: int, idempotency_key: str) -> str:
    """Give `cents` back to the card; returns the refund's id.

    Raises:
        StripeRefused: more than is left of the payment.
    """
    params: Any = {"payment_intent": payment_intent_id, "amount": cents}
    with _errors():
        return _client().v1.refunds.create(params, {"idempotency_key": idempotency_key}).id


def reference_of(object_type: str, object_id: str) -> str:
    """Return our payment's id for a Stripe object, read again from the API; empty if it is none of ours."""
    with _errors():
        v1 = _client().v1
        found: Any
        if object_type == "checkout.session":
            found = v1.checkout.sessions.retrieve(object_id).to_dict()
            return str((found.get("metadata") or {}).get("payment_id", ""))
        expand: Any = {"expand": ["payment_intent"]}
        if object_type == "payment_intent":
            intent: Any = v1.payment_intents.retrieve(object_id).to_dict()
        elif object_type == "charge":
            intent = v1.charges.retrieve(object_id, expand).to_dict().get("payment_intent")
        elif object_type == "refund":
            intent = v1.refunds.retrieve(object_id, expand).to_dict().get("payment_intent")
        elif object_type == "dispute":
            intent = v1.disputes.retrieve(object_id, expand).to_dict().get("payment_intent")
        else:
            return ""
        return str(((intent or {}).get("metadata") or {}).get("payment_id", ""))


def verify_event(payload: bytes, signature: str) -> Event:
    """Return the event of a webhook once its signature and age (five minutes) are proven.

    Raises:
        BadSignature: not signed with our secret, or too old, or not an event; or for the other mode (test, live) than our key.
    """
    if not settings.STRIPE_WEBHOOK_SECRET:
        raise StripeNotSetUp
    try:
        event: Any = _client().construct_event(
            payload, signature, settings.STRIPE_WEBHOOK_SECRET, tolerance=SIGNATURE_TOLERANCE_SECONDS
        )
        found = event.to_dict()
        if bool(found["livemode"]) != is_live():
            raise BadSignature("This event is for the other mode (test or live) than STRIPE_SECRET_KEY.")
        thing = found["data"]["object"]
        return Event(found["id"], found["type"], thing["object"], thing["id"], _moment(found["created"]))
    except (stripe.SignatureVerificationError, ValueError, KeyError, TypeError, AttributeError):
        raise BadSignature from None


def is_live() -> bool:
    """Return whether the key moves real money."""
    return "_live_" in settings.STRIPE_SECRET_KEY


def _client() -> StripeClient:
    if not settings.STRIPE_SECRET_KEY:
        raise StripeNotSetUp
    return _client_for(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE)


@lru_cache(maxsize=4)
def _client_for(key: str, base: str) -> StripeClient:
    where: Any = {"base_addresses": {"api": base}} if base else {}
    http = stripe.RequestsClient(timeout=TIMEOUT_SECONDS)
    return StripeClient(key, max_network_retries=2, http_client=http, **where)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise StripeNotSetUp(f"Stripe does not accept STRIPE_SECRET_KEY: {error.user_message}") from error
    except (stripe.InvalidRequestError, stripe.CardError, stripe.IdempotencyError) as error:
        raise StripeRefused(f"Stripe did not accept this: {error.user_message}") from error
    except stripe.StripeError as error:
        raise StripeUnavailable from error


def _checkout(session: dict[str, Any], disputes: Any = ()) -> CheckoutNews:
    intent = session.get("payment_intent") or {}
    expanded = intent if isinstance(intent, dict) else {"id": intent}
    charge = expanded.get("latest_charge") or {}
    return CheckoutNews(
        id=session["id"],
        url=session.get("url") or "",
        reference=session.get("client_reference_id") or "",
        status=session["status"],
        paid=session["payment_status"] == "paid",
        cents=session["amount_total"],
        currency=session["currency"],
        payment_intent_id=expanded.get("id") or "",
        refunded_cents=charge.get("amount_refunded", 0) if isinstance(charge, dict) else 0,
        country=_card_country(charge),
        disputes=tuple(
            DisputeNews(
                id=found["id"],
                cents=found["amount"],
                state=_DISPUTE_STATES.get(found["status"], DisputeState.SEEN),
                reason=found["reason"],
                opened_at=_moment(found["created"]),
            )
            for found in disputes
        ),
    )


def _card_country(charge: Any) -> str:
    details = charge.get("payment_method_details") if isinstance(charge, dict) else None
    return str(((details or {}).get("card") or {}).get("country") or "")


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
