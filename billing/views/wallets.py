"""A person's wallets: linking by signature or by typing, claiming, having payouts sent, stopping an address."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.timezone import localtime
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from billing import money, wallet_queries
from billing import settlement_queries as queries
from billing.chain import client
from billing.models import Wallet
from billing.services import auto_claims, claim_calls, claims, wallets
from billing.tasks.money import start
from billing.tasks.settlement import run_round
from billing.views.topups import person
from billing.views.wallet_flow import answers, browser_chain, refuse, wallet_flow
from billing.wallet_forms import AddressForm, SignatureForm, ThresholdForm
from interchain_site.core.errors import DomainError


@login_required
@require_GET
def wallet(request: HttpRequest) -> HttpResponse:
    """Where earnings are paid, what can be claimed, and what was."""
    return _page(request, AddressForm())


@login_required
@require_GET
def wallet_status(request: HttpRequest) -> HttpResponse:
    """Fragment: what can be claimed and the claims so far, for refreshing."""
    return render(request, "billing/_wallet_status.html", _status(request))


@login_required
@require_POST
@wallet_flow
def wallet_connect(request: HttpRequest) -> dict[str, Any]:
    """Link the wallet in the browser: it signs a text of ours (EIP-4361)."""
    given = answers(request, "address", "message", "signature")
    if not given["signature"]:
        text = wallets.challenge(user=person(request), address=given["address"], now=timezone.now())
        explain = "Read the text in your wallet and sign it. This costs nothing."
        return {"do": "sign_text", "text": text, "keep": "signature", "fields": {"message": text}, "explain": explain}
    _link_signed(request, given["message"], given["signature"])
    return {"do": "go", "url": reverse("wallet")}


@login_required
@require_POST
def wallet_text(request: HttpRequest) -> HttpResponse:
    """Show the text to sign elsewhere for an address that was typed."""
    form = AddressForm(request.POST)
    if form.is_valid():
        try:
            text = wallets.challenge(user=person(request), address=form.cleaned_data["address"], now=timezone.now())
            return _text_page(request, text, SignatureForm(initial={"message": text}))
        except DomainError as error:
            form.add_error("address", error.message)
    return _page(request, form, status=400)


@login_required
@require_POST
def wallet_sign(request: HttpRequest) -> HttpResponse:
    """Link the address whose signature was pasted."""
    form = SignatureForm(request.POST)
    if form.is_valid():
        try:
            _link_signed(request, form.cleaned_data["message"], form.cleaned_data["signature"])
            return redirect("wallet")
        except DomainError as error:
            form.add_error("signature", error.message)
    return _text_page(request, str(request.POST.get("message", ""))[:2_000], form, status=400)


@login_required
@require_POST
def wallet_enter(request: HttpRequest) -> HttpResponse:
    """Link an entered address: first shown again for confirmation, then linked."""
    form = AddressForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=400)
    try:
        address = wallets.read_address(form.cleaned_data["address"])
        if not form.cleaned_data["confirmed"]:
            return render(request, "billing/wallet_confirm.html", {"address": address})
        _say_linked(request, wallets.link_confirmed(address=address, by=person(request), now=timezone.now()))
    except DomainError as error:
        form.add_error("address", error.message)
        return _page(request, form, status=error.status)
    return redirect("wallet")


@login_required
@require_POST
def wallet_claim(request: HttpRequest, wallet_id: int) -> HttpResponse:
    """Ask us to send everything a wallet can have now."""
    auto_claims.ask(wallet_id=wallet_id, by=person(request), now=timezone.now())
    start(run_round)
    return redirect("wallet")


@login_required
@require_POST
@wallet_flow
def wallet_claim_self(request: HttpRequest, wallet_id: int) -> dict[str, Any]:
    """Claim from the person's own wallet, which pays the gas."""
    return claim_calls.next_step(wallet_id=wallet_id, answers=answers(request, "hash"), user=person(request))


@login_required
@require_POST
def wallet_auto(request: HttpRequest) -> HttpResponse:
    """From what amount on payouts are sent without being asked each time."""
    form = ThresholdForm(request.POST)
    if not form.is_valid():
        messages.error(request, refuse(form).message)
        return redirect("wallet")
    units = form.units()
    auto_claims.set_threshold(units=units, by=person(request), now=timezone.now())
    said = (
        f"Payouts are sent by themselves from {money.format_ntc(units)} on." if units else "Payouts wait until you ask."
    )
    messages.success(request, said)
    return redirect("wallet")


@require_http_methods(["GET", "POST"])
def wallet_stop(request: HttpRequest, token: str) -> HttpResponse:
    """Stop an address, from the link in our e-mail. Needs no sign-in: somebody else may hold the session."""
    found = wallets.read_stop_token(token)
    if request.method == "POST":
        found = wallets.stop(token=token, now=timezone.now())
    return render(request, "billing/wallet_stop.html", {"wallet": found, "token": token})


def _link_signed(request: HttpRequest, message: str, signature: str) -> None:
    linked = wallets.link_signed(
        message=message, signature=signature, by=person(request), now=timezone.now(), connect=client.connect
    )
    _say_linked(request, linked)


def _say_linked(request: HttpRequest, linked: Wallet) -> None:
    if linked.active_from is not None:
        when = localtime(linked.active_from).strftime("%Y-%m-%d %H:%M UTC")
        messages.success(request, f"{linked.address} replaces your wallet on {when}. We told you by e-mail.")
    else:
        messages.success(request, f"Earnings are paid to {linked.address} from the next settlement on.")


def _status(request: HttpRequest) -> dict[str, object]:
    user_id = person(request).pk
    history = queries.claims_of(user_id)
    return {
        "cards": wallet_queries.wallet_cards(user_id, now=timezone.now()),
        "claims": history,
        "waiting": any(claim.state in claims.UNDER_WAY for claim in history),
        "unsettled_units": queries.unsettled_units(user_id),
        "chain": browser_chain(),
        "hold_seconds": settings.ADDRESS_HOLD_SECONDS,
    }


def _page(request: HttpRequest, form: AddressForm, status: int = 200) -> HttpResponse:
    threshold = wallet_queries.threshold_of(person(request).pk)
    shown = money.plain_ntc(threshold).rstrip("0").rstrip(".") if threshold else None
    context = {"address_form": form, "threshold_form": ThresholdForm(initial={"threshold": shown}), **_status(request)}
    return render(request, "billing/wallet.html", context, status=status)


def _text_page(request: HttpRequest, text: str, form: SignatureForm, status: int = 200) -> HttpResponse:
    return render(request, "billing/wallet_text.html", {"text": text, "form": form}, status=status)
