"""Buying NTC by card: the amount, the locked price, the way to Stripe and back."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from billing import queries
from billing.errors import NoRate
from billing.forms import BuyForm
from billing.models import Payment, Quote
from billing.services import desk, topups
from billing.states import PaymentState
from interchain_site.core.errors import DomainError
from interchain_site.core.models import User


def person(request: HttpRequest) -> User:
    """Return who is signed in; the views below are only reached signed in."""
    assert isinstance(request.user, User)  # noqa: S101  (for the type checker: login_required stands before)
    return request.user


@login_required
@require_http_methods(["GET", "POST"])
def buy_ntc(request: HttpRequest) -> HttpResponse:
    """Choose an amount; sending it locks the price."""
    form = BuyForm(request.POST or None, initial={"unit": "usd"})
    if request.method == "POST" and form.is_valid():
        try:
            quote = desk.quote(user=person(request), now=timezone.now(), **form.wanted())
            return redirect("quote_detail", quote.pk)
        except DomainError as error:
            form.add_error("amount", error.message)
    try:
        rate = queries.rate_in_force(timezone.now())
    except NoRate:
        rate = None
    context = {
        "form": form,
        "rate": rate,
        "stock": desk.stock_units(),
        "balances": queries.balances(person(request).pk),
        "least": settings.DESK_MIN_CENTS,
        "most": settings.DESK_MAX_CENTS,
    }
    return render(request, "billing/buy_ntc.html", context, status=400 if form.errors else 200)


@login_required
@require_GET
def price_preview(request: HttpRequest) -> HttpResponse:
    """Fragment: what the amount being typed would cost or buy now. Locks nothing."""
    form = BuyForm(request.GET)
    price, problem = None, ""
    if form.is_valid():
        try:
            price = desk.price(now=timezone.now(), **form.wanted())
        except DomainError as error:
            problem = error.message
    elif request.GET.get("amount"):
        problem = str(next(iter(form.errors.get("amount", ["Choose dollars or NTC."]))))
    return render(request, "billing/_price.html", {"price": price, "problem": problem})


@login_required
@require_http_methods(["GET", "POST"])
def quote_detail(request: HttpRequest, quote_id: UUID) -> HttpResponse:
    """The locked price with its countdown; sending it goes on to Stripe's page."""
    quote = get_object_or_404(Quote, pk=quote_id, user=person(request))
    if request.method == "POST":
        payment = topups.start_checkout(quote_id=quote.pk, user=person(request), now=timezone.now())
        return redirect(payment.session_url or payment)
    earlier = Payment.objects.filter(quote=quote).first()
    if earlier is not None and earlier.state not in (PaymentState.CREATED, PaymentState.OPEN):
        return redirect(earlier)
    left = (quote.expires_at - timezone.now()).total_seconds()
    context = {
        "quote": quote,
        "left_seconds": max(0, int(left)),
        "live": left > 0,
        "locked": settings.QUOTE_LOCK_SECONDS,
    }
    return render(request, "billing/quote_detail.html", context)


@login_required
@require_GET
def payment_detail(request: HttpRequest, payment_id: UUID) -> HttpResponse:
    """What became of a payment. A buyer coming back from Stripe waits here for the webhook."""
    payment = get_object_or_404(queries.payments_of(person(request).pk), pk=payment_id)
    if payment.for_sale_round:
        return redirect(payment)
    return render(request, "billing/payment_detail.html", _payment_context(request, payment))


@login_required
@require_GET
def payment_status(request: HttpRequest, payment_id: UUID) -> HttpResponse:
    """Fragment of `payment_detail`, asked for again every two seconds while there is something to wait for."""
    payment = get_object_or_404(queries.payments_of(person(request).pk), pk=payment_id)
    return render(request, "billing/_payment_status.html", _payment_context(request, payment))


@login_required
@require_GET
def payments(request: HttpRequest) -> HttpResponse:
    """A person's payments, newest first."""
    found = queries.payments_of(person(request).pk)[: queries.PAGE]
    return render(request, "billing/payments.html", {"payments": found})


def _payment_context(request: HttpRequest, payment: Payment) -> dict[str, object]:
    waiting = payment.state in (PaymentState.CREATED, PaymentState.OPEN) or (
        payment.state == PaymentState.PAID and payment.credited_at is None
    )
    balances = queries.balances(person(request).pk)
    return {"payment": payment, "waiting": waiting, "balances": balances, "disputes": list(payment.disputes.all())}
