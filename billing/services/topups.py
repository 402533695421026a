"""Buying NTC by card: open a checkout, and bring a payment in line with what Stripe says about it.

A payment is a row before Stripe hears of it, so nothing is lost when a process dies in between. All news (webhook, sweep, a
person waiting on the success page) ends in `sync_payment`, which reads Stripe again and writes the difference.

The desk's NTC are credited as soon as they are paid. For a payment of the token sale only the dollars are booked;
`sale_payments` then follows it, and the chain delivers.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.urls import reverse

from billing import money
from billing.errors import CheckoutRefused, DeskOut, InsufficientFunds, PaymentRefused, QuoteExpired
from billing.models import Dispute, Payment, Quote
from billing.services import accounts, desk, ledger, payment_postings, sale_payments
from billing.signals import balance_credited
from billing.states import PAYMENT_MOVES, DisputeState, PaymentState, check_move
from billing.stripe import gateway
from billing.stripe.gateway import CheckoutNews
from interchain_site.core import audit
from interchain_site.core.errors import Conflict, NotFound
from interchain_site.core.models import User

log = structlog.get_logger()
UNPAID_AT_MOST = 3
"""Checkouts a person may have open: each keeps NTC from everybody else while its price is locked, and costs nothing to open."""


def start_checkout(*, quote_id: UUID, user: User, now: datetime) -> Payment:
    """Reserve the quoted NTC and open Stripe's payment page for it; the same quote gives the same page again.

    Raises:
        NotFound: not this person's quote.
        QuoteExpired: the lock is over.
        DeskOut, SaleRefused: others bought it meanwhile, or the sale's rules say no.
        CheckoutRefused: too many of theirs are open.
        StripeUnavailable, StripeNotSetUp: nothing was charged; the same call may be repeated.
    """
    payment = _reserve(quote_id=quote_id, user=user, now=now)
    if payment.state != PaymentState.CREATED:
        return payment
    opened = gateway.create_checkout(_checkout_for(payment))
    with transaction.atomic():
        payment = Payment.objects.select_for_update().get(pk=payment.pk)
        payment.session_id, payment.session_url = opened.id, opened.url
        if payment.state == PaymentState.CREATED:
            payment.state = PaymentState.OPEN
        payment.save()
    return payment


def sync_payment(*, payment_id: UUID, now: datetime, session_id: str = "") -> Payment:
    """Read a payment from Stripe again and write what changed: credit, expiry, refunds, disputes. Safe to repeat.

    Args:
        session_id: Stripe's checkout, when the caller knows it and the payment may not (its answer got lost).

    Raises:
        NotFound: no such payment.
        StripeUnavailable: try again later.
    """
    while True:
        seen = Payment.objects.filter(pk=payment_id).first()
        if seen is None:
            raise NotFound("There is no such payment.")
        if not (seen.session_id or session_id):
            return seen
        news = gateway.read_checkout(seen.session_id or session_id)
        with transaction.atomic():
            payment = Payment.objects.select_for_update().get(pk=payment_id)
            if payment.version == seen.version:  # else the news may be older than what is on record: look again
                return _apply(payment, news, now)


def refund_payment(*, payment_id: UUID, cents: int | None, by: User | None, now: datetime) -> Payment:
    """Refund a payment through Stripe, in full (`cents` left out) or in part, and take the NTC back.

    Raises:
        PaymentRefused: not paid, or more than is left of it.
        StripeRefused, StripeUnavailable: nothing was changed here.
    """
    payment = sync_payment(payment_id=payment_id, now=now)
    left = payment.cents - payment.refunded_cents
    cents = left if cents is None else cents
    if payment.state != PaymentState.PAID or not 0 < cents <= left:
        raise PaymentRefused(f"{money.format_usd_cents(left)} of this payment can be refunded once it is paid.")
    gateway.refund(
        payment_intent_id=payment.payment_intent_id,
        cents=cents,
        idempotency_key=f"refund:{payment.pk}:{payment.refunded_cents}:{cents}",
    )
    audit.record("refund_asked", subject=f"payment:{payment.pk}", by=by, cents=cents)
    return sync_payment(payment_id=payment_id, now=now)


def expire_unpaid(*, payment_id: UUID, now: datetime) -> Payment:
    """Close a checkout whose quote is no longer locked and free the NTC kept for it; one paid meanwhile is credited.

    Raises:
        StripeUnavailable: try again later.
    """
    payment = Payment.objects.get(pk=payment_id)
    if payment.session_id:
        gateway.expire_checkout(payment.session_id)
        return sync_payment(payment_id=payment_id, now=now)
    with transaction.atomic():
        payment = Payment.objects.select_for_update().get(pk=payment_id)
        if payment.state == PaymentState.CREATED and not payment.session_id:
            _move(payment, PaymentState.EXPIRED)
            payment.save()
            sale_payments.follow(payment, now=now)
    return payment


def _reserve(*, quote_id: UUID, user: User, now: datetime) -> Payment:
    quote = Quote.objects.filter(pk=quote_id, user=user).first()
    if quote is None:
        raise NotFound("There is no such quote of yours.")
    with transaction.atomic():
        ledger.lock_accounts({accounts.platform_account("desk_inventory")})  # one buyer at a time looks at the stock
        earlier = Payment.objects.filter(quote=quote).first()
        if (
            earlier is not None
            and earlier.state in (PaymentState.CREATED, PaymentState.OPEN)
            and now < quote.expires_at
        ):
            return earlier
        if earlier is not None or now >= quote.expires_at:
            raise QuoteExpired
        unpaid = Payment.objects.filter(user=user, state__in=(PaymentState.CREATED, PaymentState.OPEN))
        if unpaid.filter(expires_at__gt=now).count() >= UNPAID_AT_MOST:
            raise CheckoutRefused
        if quote.sale_round_id is not None:
            sale_payments.check_room(quote, now=now)
        elif quote.units > desk.stock_units():
            raise DeskOut
        payment = Payment.objects.create(
            user=user,
            quote=quote,
            units=quote.units,
            cents=quote.cents,
            created_at=now,
            expires_at=quote.expires_at,
        )
        sale_payments.reserve(payment)
        audit.record("checkout_started", subject=f"payment:{payment.pk}", by=user, cents=quote.cents, units=quote.units)
    return payment


def _checkout_for(payment: Payment) -> gateway.NewCheckout:
    page = settings.PORTAL_URL + payment.get_absolute_url()
    session_seconds = settings.QUOTE_LOCK_SECONDS + gateway.LEAST_SESSION_SECONDS
    return gateway.NewCheckout(
        reference=str(payment.pk),
        cents=payment.cents,
        description=money.format_ntc(payment.units),
        email=payment.user.email,
        success_url=page,
        cancel_url=settings.PORTAL_URL + reverse("quote_detail", args=[payment.quote_id]),
        expires_at=payment.created_at + timedelta(seconds=session_seconds),
    )


def _apply(payment: Payment, news: CheckoutNews, now: datetime) -> Payment:
    before = (payment.state, payment.credited_at, payment.payment_intent_id, payment.session_id)
    payment.session_id, payment.payment_intent_id = news.id, news.payment_intent_id or payment.payment_intent_id
    payment.checked_at = now
    changed = False
    if news.paid:
        changed = _apply_paid(payment, news, now)
    elif news.status == "expired" and payment.state in (PaymentState.CREATED, PaymentState.OPEN):
        _move(payment, PaymentState.EXPIRED)
    if changed or before != (payment.state, payment.credited_at, payment.payment_intent_id, payment.session_id):
        payment.version += 1
    payment.save()
    sale_payments.follow(payment, now=now, country=news.country)
    return payment


def _apply_paid(payment: Payment, news: CheckoutNews, now: datetime) -> bool:
    if (news.cents, news.currency, news.reference) != (payment.cents, "usd", str(payment.pk)):
        log.error("payment_mismatch", payment=str(payment.pk), session=news.id)
        raise Conflict("Stripe reports another amount than was asked for; nothing was credited. Staff were told.")
    if payment.state not in (PaymentState.PAID, PaymentState.REFUNDED):
        _move(payment, PaymentState.PAID)
        payment.paid_at = now
    if payment.for_sale_round:
        payment_postings.book_proceeds(payment, now=now)
    elif payment.credited_at is None and not _credit(payment, now):
        return False
    changed = payment_postings.apply_refunds(payment, refunded_cents=news.refunded_cents, now=now)
    for found in news.disputes:
        changed |= _apply_dispute(payment, found, now)
    state = PaymentState.REFUNDED if payment.refunded_cents == payment.cents else PaymentState.PAID
    if state != payment.state:
        _move(payment, state)
    if changed:
        audit.record("payment_adjusted", subject=f"payment:{payment.pk}", actor="stripe", refunded=news.refunded_cents)
        _tell_balance_moved(payment)
    return changed


def _credit(payment: Payment, now: datetime) -> bool:
    try:
        payment_postings.credit(payment, now=now)
    except InsufficientFunds:
        # Paid, and the desk's stock was taken away meanwhile. The sweep tries again; staff see it in the admin.
        log.error("desk_out_after_payment", payment=str(payment.pk))
        return False
    audit.record("payment_credited", subject=f"payment:{payment.pk}", actor="stripe", units=payment.units)
    _tell_balance_moved(payment)
    from billing.tasks import money as tasks

    tasks.start(tasks.send_receipt, str(payment.pk))
    return True


def _apply_dispute(payment: Payment, news: gateway.DisputeNews, now: datetime) -> bool:
    dispute, _ = Dispute.objects.get_or_create(
        pk=news.id,
        defaults={
            "payment": payment,
            "cents": news.cents,
            "units": 0,
            "reason": news.reason[:60],
            "opened_at": news.opened_at,
            "state": DisputeState.SEEN,
        },
    )
    return payment_postings.apply_dispute(payment, dispute, state=news.state, now=now)


def _tell_balance_moved(payment: Payment) -> None:
    send: Callable[[], object] = partial(balance_credited.send, sender=Payment, user_id=payment.user_id)
    transaction.on_commit(send)


def _move(payment: Payment, state: PaymentState) -> None:
    check_move(PAYMENT_MOVES, payment.state, state)
    payment.state = state
