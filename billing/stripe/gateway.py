"""Checkout, refunds, disputes and webhooks of Stripe, as the rest of the product sees them; callers never see the SDK.

Every answer is one of the frozen types below, every failure one of the errors of `billing.stripe.client`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import stripe
from django.conf import settings

from billing.states import DisputeState
from billing.stripe.client import BadSignature as BadSignature
from billing.stripe.client import StripeNotSetUp as StripeNotSetUp
from billing.stripe.client import StripeRefused as StripeRefused
from billing.stripe.client import StripeUnavailable as StripeUnavailable
from billing.stripe.client import client, errors, is_live, moment

SIGNATURE_TOLERANCE_SECONDS = 300
LEAST_SESSION_SECONDS = 31 * 60  # Stripe accepts no end nearer than 30 minutes; one more for clocks that differ

_DISPUTE_STATES = {
    "needs_response": DisputeState.OPEN,
    "under_review": DisputeState.OPEN,
    "won": DisputeState.WON,
    "lost": DisputeState.LOST,
    "charge_refunded": DisputeState.WON,  # closed because we refunded; the refund itself is counted as such
}


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
    account: str = ""  # the connected account it happened on; empty: our own


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
    with errors():
        created = client().v1.checkout.sessions.create(params, {"idempotency_key": f"checkout:{new.reference}"})
        return _checkout(created.to_dict())


def read_checkout(session_id: str) -> CheckoutNews:
    """Read a checkout again, with its refunds and disputes."""
    with errors():
        v1 = client().v1
        session = v1.checkout.sessions.retrieve(session_id, {"expand": ["payment_intent.latest_charge"]}).to_dict()
        intent = session.get("payment_intent")
        disputes = ()
        if intent and (intent.get("latest_charge") or {}).get("disputed"):
            disputes = v1.disputes.list({"payment_intent": intent["id"], "limit": 100}).to_dict()["data"]
        return _checkout(session, disputes)


def expire_checkout(session_id: str) -> None:
    """Close a checkout nobody paid; one that was paid or closed meanwhile is left as it is."""
    try:
        with errors():
            client().v1.checkout.sessions.expire(session_id)
    except StripeRefused:
        if read_checkout(session_id).status == "open":
            raise


def refund(*, payment_intent_id: str, cents: int, idempotency_key: str) -> str:
    """Give `cents` back to the card; returns the refund's id.

    Raises:
        StripeRefused: more than is left of the payment.
    """
    params: Any = {"payment_intent": payment_intent_id, "amount": cents}
    with errors():
        return client().v1.refunds.create(params, {"idempotency_key": idempotency_key}).id


def reference_of(object_type: str, object_id: str) -> str:
    """Return our payment's id for a Stripe object, read again from the API; empty if it is none of ours."""
    with errors():
        v1 = client().v1
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
        found = _signed(payload, signature)
        if bool(found["livemode"]) != is_live():
            raise BadSignature("This event is for the other mode (test or live) than STRIPE_SECRET_KEY.")
        thing = found["data"]["object"]
        account = found.get("account") or ""
        return Event(found["id"], found["type"], thing["object"], thing["id"], moment(found["created"]), account)
    except (stripe.SignatureVerificationError, ValueError, KeyError, TypeError, AttributeError):
        raise BadSignature from None


def _signed(payload: bytes, signature: str) -> dict[str, Any]:
    """Return the event, signed with either secret: Stripe gives the endpoint for connected accounts one of its own."""
    secrets = [secret for secret in (settings.STRIPE_WEBHOOK_SECRET, settings.STRIPE_CONNECT_WEBHOOK_SECRET) if secret]
    for secret in secrets[:-1]:
        try:
            return _event(payload, signature, secret)
        except stripe.SignatureVerificationError:
            continue
    return _event(payload, signature, secrets[-1])


def _event(payload: bytes, signature: str, secret: str) -> dict[str, Any]:
    event: Any = client().construct_event(payload, signature, secret, tolerance=SIGNATURE_TOLERANCE_SECONDS)
    found: dict[str, Any] = event.to_dict()
    return found


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
                opened_at=moment(found["created"]),
            )
            for found in disputes
        ),
    )


def _card_country(charge: Any) -> str:
    details = charge.get("payment_method_details") if isinstance(charge, dict) else None
    return str(((details or {}).get("card") or {}).get("country") or "")
