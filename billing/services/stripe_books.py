"""Stripe's own books, read line by line, and our rows brought in line with each: nothing that moved money there is missed here.

A webhook may be lost for good, and staff may refund in Stripe's dashboard; the list of balance transactions has it all. Each line is stored
once (`StripeMovement`) and followed once:

- its fee is booked on `stripe_fees`, whatever the line is about: cards, disputes, payouts;
- a refund or a dispute has its payment read again;
- what the company itself moves between its bank and Stripe is booked on `company_usd`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Q, Sum

from billing.models import CashOut, Payment, StripeMovement
from billing.services import accounts, ledger, topups
from billing.services.ledger import Line, Posting
from billing.stripe import books, gateway
from billing.stripe.books import Movement
from interchain_site.core.alerts import clear_alert, raise_alert
from interchain_site.core.errors import DomainError

log = structlog.get_logger(__name__)
OVERLAP = timedelta(hours=1)  # Stripe dates lines by the second; read a little again
BEGINNING = datetime(2015, 1, 1, tzinfo=UTC)
BATCH = 200
FEES = {"stripe_fee", "tax_fee", "stripe_fx_fee", "network_cost"}
COMPANY = {"payout", "payout_failure", "payout_cancel", "topup", "topup_reversal"}
PAYMENTS = {"refund", "payment_refund", "refund_failure", "payment_failure_refund", "payment_reversal", "adjustment"}
FOLLOWED_BY_THEIR_ROWS = {"charge", "payment", "transfer", "transfer_cancel", "transfer_failure", "transfer_refund"}
UNKNOWN = "stripe_movement_unknown"


def read(*, now: datetime) -> int:
    """Store what is new in Stripe's books and follow every line not followed yet; returns how many were. Safe to repeat.

    Raises:
        StripeUnavailable, StripeNotSetUp: try again later.
    """
    newest = StripeMovement.objects.order_by("-created_at").first()
    since = newest.created_at - OVERLAP if newest else BEGINNING
    found = list(books.movements(since=since))
    known = set(StripeMovement.objects.filter(created_at__gte=since).values_list("pk", flat=True))
    fresh = [_row(movement, now) for movement in reversed(found) if movement.id not in known]
    StripeMovement.objects.bulk_create(fresh, ignore_conflicts=True)
    waiting = StripeMovement.objects.filter(followed_at=None).order_by("created_at", "pk")[:BATCH]
    return sum(_follow(row, now) for row in waiting)


def beside_payments_cents() -> int:
    """Return by how many cents our balance at Stripe differs from what card payments alone would leave there.

    Below zero, normally: Stripe's fees and what was sent to owners, and what the company took out or put in.
    """
    followed = StripeMovement.objects.exclude(followed_at=None)
    sums = followed.aggregate(
        fees=Sum("fee_cents"),
        charged=Sum("cents", filter=Q(kind__in=FEES)),
        company=Sum("cents", filter=Q(kind__in=COMPANY)),
    )
    sent = CashOut.objects.exclude(transferred_at=None).filter(dollars_back_at=None).aggregate(cents=Sum("cents"))
    return (sums["charged"] or 0) + (sums["company"] or 0) - (sums["fees"] or 0) - (sent["cents"] or 0)


def _row(movement: Movement, now: datetime) -> StripeMovement:
    return StripeMovement(
        pk=movement.id,
        kind=movement.kind,
        cents=movement.cents,
        fee_cents=movement.fee_cents,
        source=movement.source,
        text=movement.text[:200],
        created_at=movement.created_at,
        seen_at=now,
    )


def _follow(row: StripeMovement, now: datetime) -> bool:
    """Bring our rows in line with a line; one that fails is tried again with the next round and stops no other."""
    try:
        if row.kind in PAYMENTS:
            _follow_payment(row, now)
        with transaction.atomic():
            row = StripeMovement.objects.select_for_update().get(pk=row.pk)
            if row.followed_at is None:
                _book(row, now)
                row.followed_at, row.error = now, ""
                row.save(update_fields=["followed_at", "error"])
    except DomainError as error:
        log.warning("stripe_movement_failed", movement=row.pk, code=error.code, message=error.message)
        StripeMovement.objects.filter(pk=row.pk).update(error=error.message[:300])
        return False
    return True


def _follow_payment(row: StripeMovement, now: datetime) -> None:
    """Read the payment again that a refund or a dispute is about, unless that was done since."""
    kind = {"re": "refund", "pyr": "refund", "du": "dispute", "dp": "dispute"}.get(row.source.split("_")[0], "")
    if not kind:
        return
    reference = gateway.reference_of(kind, row.source)
    payment = Payment.objects.filter(pk=reference).first() if len(reference) == 36 else None
    if payment is not None:
        topups.sync_payment(payment_id=payment.pk, now=now)


def _book(row: StripeMovement, now: datetime) -> None:
    fee = row.fee_cents - (row.cents if row.kind in FEES else 0)
    if fee:
        _post(row, "stripe_fee", "stripe_fees", -fee, now, f"Stripe's fee: {row.text or row.kind}")
    if row.kind in COMPANY:
        _post(row, "company_transfer", "company_usd", row.cents, now, "Between the company's bank and Stripe")
    elif row.kind not in FEES | PAYMENTS | FOLLOWED_BY_THEIR_ROWS:
        message = f"Stripe moved money in a way we do not know: {row.kind}, {row.pk}."
        raise_alert(
            code=UNKNOWN,
            subject=row.pk,
            message=message,
            mend="Look it up in Stripe's dashboard and tell the developers.",
        )
    else:
        clear_alert(code=UNKNOWN, subject=row.pk)


def _post(row: StripeMovement, kind: str, account: str, cents: int, now: datetime, memo: str) -> None:
    """Book dollars between Stripe's clearing account and another of ours: `cents` above zero came in at Stripe."""
    lines = (
        Line(accounts.platform_account("stripe_clearing", "USD"), -cents),
        Line(accounts.platform_account(account, "USD"), cents),
    )
    key = f"{kind}:{row.pk}"
    ledger.post(
        postings=[Posting(key, kind, lines, row.created_at, memo[:200], f"stripe:{row.source or row.pk}")], now=now
    )
