"""What Stripe does: sessions, payments, refunds, disputes, and the events they cause. No HTTP in here.

Longer than 300 lines because Stripe's objects are long and each is written out once, where it begins.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from billing.stripe.standin.balances import Balances
from billing.stripe.standin.cards import Outcome
from billing.stripe.standin.errors import ApiError as ApiError
from billing.stripe.standin.store import Object, Store, new_id

API_VERSION = "2025-03-31.basil"
CHARGE_FEE_BASIS_POINTS, CHARGE_FEE_CENTS, DISPUTE_FEE_CENTS = 290, 30, 1500  # Stripe's list prices in the US
OPEN_DISPUTE = ("warning_needs_response", "needs_response", "under_review", "warning_under_review")


class Engine:
    """The rules, over a store. Every public method is one transaction of the caller's."""

    def __init__(self, store: Store, *, dispute_after_seconds: float = 5, available_after_seconds: float = 0) -> None:
        self.store = store
        self.dispute_after_seconds = dispute_after_seconds
        self.balances = Balances(store, available_after_seconds=available_after_seconds)
        self.due_actions: dict[str, Callable[[str], object]] = {"expire": self.expire_session}

    def find(self, object_id: str, kind: str) -> Object:
        found = self.store.get(object_id, kind)
        if found is None:
            raise ApiError(f"No such {kind}: '{object_id}'", status=404, code="resource_missing", param="id")
        return found

    def create_session(self, params: Object, base_url: str) -> Object:
        """Open a checkout session from already checked parameters."""
        now = int(time.time())
        amount = sum(int(item["price_data"]["unit_amount"]) * int(item["quantity"]) for item in params["line_items"])
        expires_at = int(params.get("expires_at", now + 86_400))
        if amount < 50:
            raise ApiError("The total must be at least $0.50 usd.", code="amount_too_small")
        if not now + 30 * 60 <= expires_at <= now + 86_400:
            raise ApiError("The `expires_at` must be between 30 minutes and 24 hours from now.", param="expires_at")
        session_id = new_id("cs_test")
        session: Object = {
            "id": session_id,
            "object": "checkout.session",
            "amount_subtotal": amount,
            "amount_total": amount,
            "cancel_url": params.get("cancel_url"),
            "client_reference_id": params.get("client_reference_id"),
            "created": now,
            "currency": params["line_items"][0]["price_data"]["currency"],
            "customer_email": params.get("customer_email"),
            "expires_at": expires_at,
            "livemode": False,
            "metadata": params.get("metadata", {}),
            "mode": "payment",
            "payment_intent": None,
            "payment_method_types": params.get("payment_method_types", ["card"]),
            "payment_status": "unpaid",
            "status": "open",
            "success_url": params["success_url"],
            "url": f"{base_url}/c/pay/{session_id}",
            "standin": {"intent": params.get("payment_intent_data", {}), "items": params["line_items"]},
        }
        self.store.later(session_id, expires_at, "expire")
        return self.store.put(session)

    def expire_session(self, session_id: str) -> Object:
        session = self.find(session_id, "checkout.session")
        if session["status"] != "open":
            raise ApiError(f"This Session has status '{session['status']}', only open ones can be expired.")
        session.update(status="expired", url=None)
        self.event("checkout.session.expired", session)
        return self.store.put(session)

    def pay(self, session_id: str, number: str, outcome: Outcome) -> str:
        """Try a card on a session; returns the decline's message, empty when it was paid."""
        session = self.find(session_id, "checkout.session")
        if session["status"] != "open":
            return "This payment page is closed."
        intent = self._intent(session)
        charge = self._charge(session, intent, number, outcome)
        if outcome.code:
            intent["last_payment_error"] = {"code": outcome.code, "message": outcome.message, "type": "card_error"}
            self.store.put(intent)
            self.event("charge.failed", charge)
            self.event("payment_intent.payment_failed", intent)
            return outcome.message
        fee = (charge["amount"] * CHARGE_FEE_BASIS_POINTS + 5_000) // 10_000 + CHARGE_FEE_CENTS
        moved = self.balances.record("charge", charge["amount"], charge["id"], fee=fee, text="Stripe processing fees")
        charge["balance_transaction"] = moved["id"]
        self.store.put(charge)
        intent.update(status="succeeded", amount_received=intent["amount"], last_payment_error=None)
        session.update(status="complete", payment_status="paid", url=None)
        self.store.put(intent)
        self.store.put(session)
        self.event("charge.succeeded", charge)
        self.event("payment_intent.succeeded", intent)
        self.event("checkout.session.completed", session)
        if outcome.dispute:
            action = f"{'inquire' if outcome.inquiry else 'dispute'}:{outcome.dispute}"
            self.store.later(charge["id"], time.time() + self.dispute_after_seconds, action)
        return ""

    def refund(self, params: Object) -> Object:
        """Refund a payment, never more than is left of it."""
        charge = self._charge_of(params)
        left = charge["amount"] - charge["amount_refunded"]
        amount = int(params.get("amount", left))
        if left == 0:
            raise ApiError(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
        if self._open_disputes(charge):
            raise ApiError(f"Charge {charge['id']} has been charged back.", code="charge_disputed")
        if not 0 < amount <= left:
            message = (
                f"Refund amount (${amount / 100:.2f}) is greater than unrefunded amount on charge (${left / 100:.2f})"
            )
            raise ApiError(message, param="amount")
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
        refund: Object = {
            "id": new_id("re"),
            "object": "refund",
            "amount": amount,
            "charge": charge["id"],
            "created": int(time.time()),
            "currency": charge["currency"],
            "metadata": params.get("metadata", {}),
            "payment_intent": charge["payment_intent"],
            "reason": params.get("reason"),
            "status": "succeeded",
        }
        refund["balance_transaction"] = self.balances.record("refund", -amount, refund["id"])["id"]
        self.store.put(charge)
        self.store.put(refund)
        self.event("charge.refunded", charge)
        self.event("refund.created", refund)
        return refund

    def fail_refund(self, refund_id: str) -> Object:
        """The cardholder's bank sends a refund back."""
        refund = self.find(refund_id, "refund")
        if refund["status"] != "succeeded":
            raise ApiError("Only a refund that succeeded can come back.")
        refund["status"] = "failed"
        charge = self.find(refund["charge"], "charge")
        charge["amount_refunded"] -= refund["amount"]
        charge["refunded"] = False
        back = self.balances.record("refund_failure", refund["amount"], refund_id)
        refund["failure_balance_transaction"] = back["id"]
        self.store.put(charge)
        self.store.put(refund)
        self.event("refund.failed", refund)
        return refund

    def dispute(self, charge_id: str, reason: str = "fraudulent", *, inquiry: bool = False) -> Object:
        """The cardholder's bank takes the money back for now; an inquiry only asks."""
        charge = self.find(charge_id, "charge")
        left = charge["amount"] - charge["amount_refunded"]
        if not charge["paid"] or left == 0 or self._open_disputes(charge):
            raise ApiError("There is nothing on this charge to dispute.")
        charge["disputed"] = True
        now = int(time.time())
        dispute: Object = {
            "id": new_id("du"),
            "object": "dispute",
            "amount": left,
            "balance_transactions": [],
            "charge": charge_id,
            "created": now,
            "currency": charge["currency"],
            "livemode": False,
            "metadata": {},
            "payment_intent": charge["payment_intent"],
            "reason": reason,
            "status": "warning_needs_response" if inquiry else "needs_response",
        }
        if not inquiry:
            self._disputed(dispute, -left, "dispute", fee=DISPUTE_FEE_CENTS)
        self.store.put(charge)
        self.store.put(dispute)
        self.event("charge.dispute.created", dispute)
        if not inquiry:
            self.event("charge.dispute.funds_withdrawn", dispute)
        return dispute

    def close_dispute(self, dispute_id: str, status: str) -> Object:
        """Decide a dispute: `won` (the money comes back) or `lost`."""
        dispute = self.find(dispute_id, "dispute")
        if dispute["status"] not in OPEN_DISPUTE:
            raise ApiError(f"This dispute is already closed ({dispute['status']}).")
        inquiry = dispute["status"].startswith("warning_")
        dispute["status"] = "warning_closed" if inquiry else status
        if dispute["status"] == "won":
            self._disputed(dispute, dispute["amount"], "dispute_reversal")
        self.store.put(dispute)
        self.event("charge.dispute.closed", dispute)
        if dispute["status"] == "won":
            self.event("charge.dispute.funds_reinstated", dispute)
        return dispute

    def run_due(self, now: float) -> None:
        """Do what has become due: sessions that expire, disputes that follow a test card, what `due_actions` has more."""
        for object_id, action in self.store.take_due(now):
            try:
                if action in self.due_actions:
                    self.due_actions[action](object_id)
                else:
                    verb, _, reason = action.partition(":")
                    self.dispute(object_id, reason, inquiry=verb == "inquire")
            except ApiError:
                continue  # paid, refunded or disputed meanwhile

    def event(self, kind: str, thing: Object, account: str = "") -> Object:
        """Record an event about an object as it is now, and queue its delivery; `account`: it is a connected account's."""
        body = {key: value for key, value in thing.items() if key != "standin"}
        event = self.store.put(
            {
                "id": new_id("evt"),
                "object": "event",
                **({"account": account} if account else {}),
                "api_version": API_VERSION,
                "created": int(time.time()),
                "data": {"object": body},
                "livemode": False,
                "pending_webhooks": 1,
                "request": {"id": None, "idempotency_key": None},
                "type": kind,
            }
        )
        self.store.deliver(event["id"])
        return event

    def _intent(self, session: Object) -> Object:
        if session["payment_intent"]:
            return self.find(session["payment_intent"], "payment_intent")
        intent: Object = {
            "id": new_id("pi"),
            "object": "payment_intent",
            "amount": session["amount_total"],
            "amount_received": 0,
            "created": int(time.time()),
            "currency": session["currency"],
            "description": session["standin"]["intent"].get("description"),
            "last_payment_error": None,
            "latest_charge": None,
            "livemode": False,
            "metadata": session["standin"]["intent"].get("metadata", {}),
            "receipt_email": session["customer_email"],
            "status": "requires_payment_method",
        }
        session["payment_intent"] = intent["id"]
        self.store.put(session)
        return self.store.put(intent)

    def _charge(self, session: Object, intent: Object, number: str, outcome: Outcome) -> Object:
        charge: Object = {
            "id": new_id("ch"),
            "object": "charge",
            "amount": intent["amount"],
            "amount_captured": 0 if outcome.code else intent["amount"],
            "amount_refunded": 0,
            "balance_transaction": None,
            "billing_details": {"email": session["customer_email"]},
            "captured": not outcome.code,
            "created": int(time.time()),
            "currency": intent["currency"],
            "disputed": False,
            "failure_code": outcome.code or None,
            "failure_message": outcome.message or None,
            "livemode": False,
            "metadata": intent["metadata"],
            "outcome": {
                "type": "issuer_declined" if outcome.code else "authorized",
                "reason": outcome.decline_code or None,
            },
            "paid": not outcome.code,
            "payment_intent": intent["id"],
            "payment_method_details": {
                "type": "card",
                "card": {"brand": outcome.brand, "country": outcome.country, "last4": number[-4:]},
            },
            "refunded": False,
            "status": "failed" if outcome.code else "succeeded",
        }
        intent["latest_charge"] = charge["id"]
        self.store.put(intent)
        return self.store.put(charge)

    def _charge_of(self, params: Object) -> Object:
        if "payment_intent" in params:
            charge_id: Any = self.find(params["payment_intent"], "payment_intent")["latest_charge"]
        else:
            charge_id = params.get("charge")
        charge = self.find(charge_id or "", "charge")
        if not charge["paid"]:
            raise ApiError(f"Charge {charge['id']} was not paid.")
        return charge

    def _disputed(self, dispute: Object, amount: int, category: str, fee: int = 0) -> None:
        moved = self.balances.record("adjustment", amount, dispute["id"], fee=fee, category=category, text="Chargeback")
        dispute["balance_transactions"].append({key: value for key, value in moved.items() if key != "standin"})

    def _open_disputes(self, charge: Object) -> list[Object]:
        lasting = (*OPEN_DISPUTE[1:3], "lost")
        return [d for d in self.store.all("dispute") if d["charge"] == charge["id"] and d["status"] in lasting]
