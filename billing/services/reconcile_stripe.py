"""The ledger against Stripe: every charge, refund and dispute there is one of ours here, with the same amounts.

Objects of the last `RECONCILE_STRIPE_DAYS` are compared one by one; the dollars Stripe holds for us by the ledger are compared
with all our payments, so that old ones are covered through them.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Sum

from billing import money, queries
from billing.models import Dispute, Payment, StripeMovement
from billing.services import stripe_books
from billing.services.reconcile_findings import Check
from billing.states import DisputeState, PaymentState
from billing.stripe import books
from billing.stripe.client import StripeNotSetUp, StripeRefused, StripeUnavailable

UNDER_WAY = timedelta(minutes=15)
"""How long news from Stripe may take to be written down before it counts as missing."""
REFUND_STANDS = ("succeeded", "pending", "requires_action")


def stripe(*, now: datetime) -> Check:
    """Compare what Stripe lists with what the ledger wrote down."""
    check = Check("ledger = Stripe")
    clearing = -queries.platform_balance("stripe_clearing", "USD")
    if not settings.STRIPE_SECRET_KEY and not clearing and not Payment.objects.exclude(session_id=None).exists():
        check.facts.append("card payments are not set up")
        return check
    try:
        _charges(check, now=now)
        _refunds(check, now=now)
        _disputes(check, now=now)
    except (StripeUnavailable, StripeNotSetUp, StripeRefused) as error:
        check.unread = error.message
    return check


def _since(now: datetime) -> datetime:
    return now - timedelta(days=settings.RECONCILE_STRIPE_DAYS)


def _charges(check: Check, *, now: datetime) -> None:
    """Every paid charge is a payment of ours with its amount, and every payment of ours is a paid charge."""
    ours = {
        row.payment_intent_id: row
        for row in Payment.objects.exclude(payment_intent_id="").filter(created_at__gte=_since(now))
    }
    by_id = {str(row.pk): row for row in ours.values()}
    there: set[str] = set()
    total = 0
    for charge in books.charges(since=_since(now)):
        if not charge.paid:
            continue
        total += 1
        there.add(charge.payment_intent_id)
        payment = ours.get(charge.payment_intent_id) or by_id.get(charge.reference)
        payment = payment or _payment(charge.payment_intent_id, charge.reference)
        words = f"Stripe's charge {charge.id} over {money.format_usd_cents(charge.cents)}"
        fresh = charge.created_at > now - UNDER_WAY
        if payment is None:
            check.differ(f"{words} belongs to no payment of ours.")
        elif payment.cents != charge.cents:
            check.differ(f"{words} is {money.format_usd_cents(payment.cents)} here (payment {payment.pk}).")
        elif payment.paid_at is None:
            _late(check, fresh, f"{words} is paid there, but not here (payment {payment.pk}).")
        elif payment.refunded_cents != charge.refunded_cents:
            _late(
                check,
                fresh,
                f"{words} is refunded {money.format_usd_cents(charge.refunded_cents)} there and "
                f"{money.format_usd_cents(payment.refunded_cents)} here (payment {payment.pk}).",
            )
    paid = [row for row in ours.values() if row.state in (PaymentState.PAID, PaymentState.REFUNDED)]
    for row in paid:
        if row.payment_intent_id not in there and row.created_at > _since(now) + timedelta(days=1):
            check.differ(
                f"Payment {row.pk} over {money.format_usd_cents(row.cents)} is paid here, but Stripe lists no charge."
            )
    check.facts.append(f"{total:,} charges since {_since(now):%Y-%m-%d}")


def _refunds(check: Check, *, now: datetime) -> None:
    """Refunds of payments older than the charges compared above: each must be of a payment of ours."""
    for refund in books.refunds(since=_since(now)):
        if refund.status in REFUND_STANDS and _payment(refund.payment_intent_id, "") is None:
            check.differ(
                f"Stripe's refund {refund.id} over {money.format_usd_cents(refund.cents)} belongs to no payment of ours."
            )


def _disputes(check: Check, *, now: datetime) -> None:
    known = dict(Dispute.objects.values_list("id", "cents"))
    for dispute in books.disputes(since=_since(now)):
        if dispute.id not in known and not dispute.status.startswith("warning"):
            words = f"Stripe's dispute {dispute.id} over {money.format_usd_cents(dispute.cents)} is not known here."
            _late(check, dispute.created_at > now - UNDER_WAY, words)


def balance(*, now: datetime) -> Check:
    """What Stripe holds for us is what the ledger says, but for what moved so lately that it is still being written down."""
    check = Check("Stripe's balance = the ledger")
    clearing = -queries.platform_balance("stripe_clearing", "USD")
    if not settings.STRIPE_SECRET_KEY and not clearing:
        check.facts.append("card payments are not set up")
        return check
    try:
        stripe_books.read(now=now)
        held = books.balance()
    except (StripeUnavailable, StripeNotSetUp, StripeRefused) as error:
        check.unread = error.message
        return check
    total, clearing = held.available_cents + held.pending_cents, -queries.platform_balance("stripe_clearing", "USD")
    if total == clearing:
        check.facts.append(f"{money.format_usd_cents(total)} at Stripe")
        return check
    lately = StripeMovement.objects.filter(created_at__gt=now - UNDER_WAY).values_list("cents", flat=True)
    words = f"Stripe holds {money.format_usd_cents(total)} for us, by the ledger {money.format_usd_cents(clearing)}."
    _late(check, abs(total - clearing) <= sum(abs(cents) for cents in lately), words)
    return check


def ledger_of_payments() -> Check:
    """The dollars the ledger says Stripe holds are those of our payments, less refunds, disputes and what was sent on."""
    check = Check("Stripe's account in the ledger = our payments")
    clearing = -queries.platform_balance("stripe_clearing", "USD")
    paid = Payment.objects.filter(paid_at__isnull=False).aggregate(cents=Sum("cents"), refunded=Sum("refunded_cents"))
    taken = (
        Dispute.objects.filter(state__in=[DisputeState.OPEN, DisputeState.LOST]).aggregate(cents=Sum("cents"))["cents"]
        or 0
    )
    expected = (paid["cents"] or 0) - (paid["refunded"] or 0) - taken + stripe_books.beside_payments_cents()
    if clearing != expected:
        check.differ(
            f"By the ledger Stripe holds {money.format_usd_cents(clearing)} for us, by our payments, fees and payouts "
            f"{money.format_usd_cents(expected)}."
        )
    check.facts.append(f"{money.format_usd_cents(clearing)} at Stripe by the ledger")
    return check


def _payment(payment_intent_id: str, reference: str) -> Payment | None:
    found = Payment.objects.filter(payment_intent_id=payment_intent_id).first() if payment_intent_id else None
    if found is None and reference:
        try:
            found = Payment.objects.filter(pk=reference).first()
        except (ValueError, TypeError):
            return None
    return found


def _late(check: Check, fresh: bool, words: str) -> None:
    """News takes a moment: within it, it is under way; after it, it is missing."""
    if fresh:
        check.facts.append(f"under way: {words}")
    else:
        check.differ(words)
