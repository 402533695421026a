"""Cashing out: link a bank at Stripe, lock a price, confirm with a code or a passkey, watch the dollars arrive."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from billing import queries
from billing.errors import BankMissing, CashOutRefused, NoRate
from billing.forms import BankForm, CashOutForm
from billing.models import CashOut
from billing.services import cash_out_rules, cash_out_words, cash_outs, confirmations, connect_accounts
from billing.states import CashOutState
from billing.views import passkeys
from billing.views.topups import person
from billing.wallet_forms import CodeForm
from interchain_site.core.errors import DomainError

MOVING = (CashOutState.CONFIRMED, CashOutState.RESERVED, CashOutState.TRANSFERRED, CashOutState.RETURNING)


@login_required
@require_http_methods(["GET", "POST"])
def cash_out(request: HttpRequest) -> HttpResponse:
    """The bank, an amount to sell, and what became of earlier ones; sending the amount locks the price."""
    if request.method == "GET":
        if request.GET.get("back"):
            _ask_stripe(request)
        return _page(request, CashOutForm(initial={"unit": "ntc"}))
    form = CashOutForm(request.POST)
    if form.is_valid():
        try:
            asked = cash_outs.ask(user=person(request), now=timezone.now(), **form.wanted())
            return redirect(asked)
        except confirmations.MailNotSent as error:
            messages.error(request, error.message)
            return redirect("cash_out")
        except DomainError as error:
            form.add_error("amount", error.message)
    return _page(request, form, 400)


@login_required
@require_GET
def cash_out_price(request: HttpRequest) -> HttpResponse:
    """Fragment: what the amount being typed is worth now. Locks nothing."""
    form = CashOutForm(request.GET)
    price, problem = None, ""
    if form.is_valid():
        try:
            price = cash_outs.price(user=person(request), now=timezone.now(), **form.wanted())
        except DomainError as error:
            problem = error.message
    elif request.GET.get("amount"):
        problem = str(next(iter(form.errors.get("amount", ["Choose NTC or dollars."]))))
    return render(request, "billing/_cash_out_price.html", {"price": price, "problem": problem})


@login_required
@require_http_methods(["GET", "POST"])
def cash_out_bank(request: HttpRequest) -> HttpResponse:
    """Go on to Stripe to link a bank; Stripe itself sends people here (GET) when a link of theirs was used up."""
    account = connect_accounts.of(person(request))
    if request.method == "GET":
        if account is None or account.stripe_id is None:
            return redirect("cash_out")
        country = account.country
    else:
        form = BankForm(request.POST)
        if account is None and not form.is_valid():
            return _page(request, CashOutForm(initial={"unit": "ntc"}), 400, bank_form=form)
        country = account.country if account and account.stripe_id else form.data.get("country", "")
    return redirect(connect_accounts.start_onboarding(user=person(request), country=country, now=timezone.now()))


@login_required
@require_POST
def cash_out_stripe(request: HttpRequest) -> HttpResponse:
    """Go on to the person's own pages at Stripe, e.g. to change the bank account."""
    return redirect(connect_accounts.dashboard_url(user=person(request)))


@login_required
@require_http_methods(["GET", "POST"])
def cash_out_detail(request: HttpRequest, cash_out_id: UUID) -> HttpResponse:
    """One cash-out: the locked price and the code that confirms it, then what became of it."""
    found = cash_outs.of_person(cash_out_id=cash_out_id, user=person(request))
    if request.method == "GET":
        return _detail(request, found, CodeForm())
    form = CodeForm(request.POST)
    if form.is_valid():
        try:
            code = form.cleaned_data["code"]
            cash_outs.confirm(cash_out_id=cash_out_id, user=person(request), code=code, now=timezone.now())
            return redirect(found)
        except DomainError as error:
            form.add_error("code", error.message)
            found.refresh_from_db()
    return _detail(request, found, form, 400)


@login_required
@require_GET
def cash_out_status(request: HttpRequest, cash_out_id: UUID) -> HttpResponse:
    """Fragment of `cash_out_detail`, refreshed while it moves."""
    found = cash_outs.of_person(cash_out_id=cash_out_id, user=person(request))
    return render(request, "billing/_cash_out_status.html", {"cash_out": found, "every": _every(found)})


@login_required
@require_GET
def cash_out_passkey(request: HttpRequest, cash_out_id: UUID) -> HttpResponse:
    """Confirm with a passkey used since the cash-out was asked for; without one, go and use it."""
    found = cash_outs.of_person(cash_out_id=cash_out_id, user=person(request))
    if not passkeys.used_since(request, found.created_at, now=timezone.now()):
        return redirect(passkeys.ask_url(request.get_full_path()))
    if found.state == CashOutState.ASKED:
        confirmations.accept(subject=found.subject, user=person(request), by="passkey", now=timezone.now())
        cash_outs.go_on(cash_out_id=cash_out_id, user=person(request), now=timezone.now())
    return redirect(found)


@login_required
@require_POST
def cash_out_code(request: HttpRequest, cash_out_id: UUID) -> HttpResponse:
    """Send another code."""
    found = cash_outs.of_person(cash_out_id=cash_out_id, user=person(request))
    try:
        cash_outs.send_code(cash_out=found, now=timezone.now())
        messages.success(request, f"A code is on its way to {person(request).email}.")
    except DomainError as error:
        messages.error(request, error.message)
    return redirect(found)


@login_required
@require_POST
def cash_out_cancel(request: HttpRequest, cash_out_id: UUID) -> HttpResponse:
    """Give it up, as long as nothing moved."""
    cash_outs.cancel(cash_out_id=cash_out_id, user=person(request), now=timezone.now())
    messages.success(request, "The cash-out is cancelled. Nothing was moved.")
    return redirect("cash_out")


def _ask_stripe(request: HttpRequest) -> None:
    """Somebody comes back from Stripe: look now, the webhook may be a moment away."""
    account = connect_accounts.of(person(request))
    if account is not None:
        with suppress(DomainError):
            connect_accounts.sync(account_id=account.pk, now=timezone.now())


def _page(
    request: HttpRequest, form: CashOutForm, status: int = 200, bank_form: BankForm | None = None
) -> HttpResponse:
    user, now = person(request), timezone.now()
    account = connect_accounts.of(user)
    try:
        rate = queries.rate_in_force(now)
    except NoRate:
        rate = None
    context = {
        "form": form,
        "bank_form": bank_form or BankForm(),
        "account": account,
        "standing": cash_out_words.standing(account),
        "wanted": cash_out_words.wanted(account) if account else [],
        "refusal": _refusal(request),
        "rate": rate,
        "balances": queries.balances(user.pk),
        "cash": cash_out_rules.desk_cash_cents(),
        "rules": cash_out_rules.rules(),
        "left_today": cash_out_rules.left_today_cents(user, now),
        "cash_outs": queries.cash_outs_of(user.pk)[: queries.PAGE],
        "locked_seconds": settings.QUOTE_LOCK_SECONDS,
    }
    return render(request, "billing/cash_out.html", context, status=status)


def _refusal(request: HttpRequest) -> str:
    """Return why this person cannot cash out now, apart from the bank, which the page shows anyway."""
    try:
        cash_out_rules.check_open()
        cash_out_rules.check_person(person(request), connect_accounts.of(person(request)))
    except CashOutRefused as error:
        return error.message
    except BankMissing:
        return ""
    return ""


def _detail(request: HttpRequest, found: CashOut, form: CodeForm, status: int = 200) -> HttpResponse:
    left = (found.expires_at - timezone.now()).total_seconds()
    context = {
        "cash_out": found,
        "form": form,
        "left_seconds": max(0, int(left)),
        "live": found.state == CashOutState.ASKED and left > 0,
        "method": confirmations.method_for(person(request)),
        "passkey": passkeys.has_one(person(request)),
        "cancellable": found.state in (CashOutState.ASKED, CashOutState.CONFIRMED) and left > 0,
        "every": _every(found),
    }
    return render(request, "billing/cash_out_detail.html", context, status=status)


def _every(found: CashOut) -> int:
    """Return after how many seconds to look again; 0 when nothing more is expected soon."""
    return 2 if found.state in MOVING else 10 if found.state == CashOutState.ON_THE_WAY else 0
