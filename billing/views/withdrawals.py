"""Withdrawing NTC: ask, compare the address, confirm with a code or a passkey, watch it, cancel it."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from billing import wallet_queries
from billing.chain.states import WithdrawalState
from billing.models import Wallet, Withdrawal
from billing.services import confirmations, reconcile, wallets, withdrawals
from billing.views import passkeys
from billing.views.topups import person
from billing.wallet_forms import CodeForm, WithdrawForm
from interchain_site.core.errors import DomainError

MOVING = (WithdrawalState.CONFIRMED, WithdrawalState.COMMITTED, WithdrawalState.CLAIMABLE)


@login_required
@require_http_methods(["GET", "POST"])
def withdraw(request: HttpRequest) -> HttpResponse:
    """Ask for a withdrawal; a new address is shown again before anything is kept."""
    known = wallet_queries.addresses_of(person(request).pk)
    if request.method == "GET":
        return _page(request, WithdrawForm(wallets=known))
    form = WithdrawForm(request.POST, wallets=known)
    if not form.is_valid():
        return _page(request, form, 400)
    try:
        wallet = _destination(request, form)
        if wallet is None:
            return _compare(request, form)
        asked = withdrawals.ask(wallet_id=wallet.pk, units=form.units(), by=person(request), now=timezone.now())
    except confirmations.MailNotSent as error:
        messages.error(request, error.message)
        return redirect("withdraw")
    except DomainError as error:
        form.add_error(next(iter(error.fields), None) if set(error.fields) & set(form.fields) else None, error.message)
        return _page(request, form, error.status)
    return redirect("withdrawal_detail", asked.pk)


@login_required
@require_http_methods(["GET", "POST"])
def withdrawal_detail(request: HttpRequest, withdrawal_id: UUID) -> HttpResponse:
    """One withdrawal: the code that confirms it, and what became of it."""
    found = withdrawals.of_person(withdrawal_id=withdrawal_id, user=person(request))
    if request.method == "GET":
        return _detail(request, found, CodeForm())
    form = CodeForm(request.POST)
    if form.is_valid():
        try:
            code = form.cleaned_data["code"]
            withdrawals.confirm(withdrawal_id=withdrawal_id, code=code, by=person(request), now=timezone.now())
            return redirect("withdrawal_detail", withdrawal_id)
        except DomainError as error:
            form.add_error("code", error.message)
    return _detail(request, found, form, 400)


@login_required
@require_GET
def withdrawal_status(request: HttpRequest, withdrawal_id: UUID) -> HttpResponse:
    """Fragment of `withdrawal_detail`, refreshed while it moves."""
    found = withdrawals.of_person(withdrawal_id=withdrawal_id, user=person(request))
    return render(request, "billing/_withdrawal_status.html", _facts(found))


@login_required
@require_GET
def withdrawal_passkey(request: HttpRequest, withdrawal_id: UUID) -> HttpResponse:
    """Confirm with a passkey used since the withdrawal was asked for; without one, go and use it."""
    found = withdrawals.of_person(withdrawal_id=withdrawal_id, user=person(request))
    if not passkeys.used_since(request, found.asked_at, now=timezone.now()):
        return redirect(passkeys.ask_url(request.get_full_path()))
    confirmations.accept(subject=withdrawals.subject(found), user=person(request), by="passkey", now=timezone.now())
    withdrawals.reserve(withdrawal_id=withdrawal_id, by=person(request), now=timezone.now())
    return redirect("withdrawal_detail", withdrawal_id)


@login_required
@require_POST
def withdrawal_code(request: HttpRequest, withdrawal_id: UUID) -> HttpResponse:
    """Send another code."""
    found = withdrawals.of_person(withdrawal_id=withdrawal_id, user=person(request))
    try:
        withdrawals.send_code(withdrawal=found, now=timezone.now())
        messages.success(request, f"A code is on its way to {person(request).email}.")
    except DomainError as error:
        messages.error(request, error.message)
    return redirect("withdrawal_detail", withdrawal_id)


@login_required
@require_POST
def withdrawal_cancel(request: HttpRequest, withdrawal_id: UUID) -> HttpResponse:
    """Take it back, as long as no epoch has it."""
    withdrawals.cancel(withdrawal_id=withdrawal_id, by=person(request), now=timezone.now())
    messages.success(request, "The withdrawal is cancelled. Its NTC are in your balance again.")
    return redirect("withdrawal_detail", withdrawal_id)


def _destination(request: HttpRequest, form: WithdrawForm) -> Wallet | None:
    """Return the row of the chosen address; None for a new one the person has not compared yet."""
    if form.cleaned_data["wallet"]:
        return Wallet.objects.get(pk=form.cleaned_data["wallet"])
    address = wallets.read_address(form.cleaned_data["address"])
    known = Wallet.objects.filter(user=person(request), address=address, stopped_at=None).first()
    if known is None and not form.cleaned_data["confirmed"]:
        return None
    return wallets.remember(address=address, by=person(request), now=timezone.now())


def _compare(request: HttpRequest, form: WithdrawForm) -> HttpResponse:
    context = {
        "address": wallets.read_address(form.cleaned_data["address"]),
        "units": form.units(),
        "amount": form.data["amount"],
        "hold_seconds": settings.ADDRESS_HOLD_SECONDS,
    }
    return render(request, "billing/withdraw_confirm.html", context)


def _page(request: HttpRequest, form: WithdrawForm, status: int = 200) -> HttpResponse:
    user_id, now = person(request).pk, timezone.now()
    context = {
        "form": form,
        "possible": withdrawals.possible_units(user_id=user_id, now=now),
        "card_units": withdrawals.card_units(user_id=user_id, now=now),
        "blocked": reconcile.withdrawals_blocked(),
        "withdrawals": wallet_queries.withdrawals_of(user_id),
        "hold_seconds": settings.ADDRESS_HOLD_SECONDS,
        "card_hold_seconds": settings.WITHDRAWAL_CARD_HOLD_SECONDS,
        "epoch_seconds": settings.EPOCH_SECONDS,
    }
    return render(request, "billing/withdraw.html", context, status=status)


def _detail(request: HttpRequest, found: Withdrawal, form: CodeForm, status: int = 200) -> HttpResponse:
    context = {
        **_facts(found),
        "form": form,
        "method": confirmations.method_for(person(request)),
        "passkey": passkeys.has_one(person(request)),
    }
    return render(request, "billing/withdrawal_detail.html", context, status=status)


def _facts(found: Withdrawal) -> dict[str, object]:
    return {
        "withdrawal": found,
        "moving": found.state in MOVING,
        "cancellable": found.state in withdrawals.CANCELLABLE,
    }
