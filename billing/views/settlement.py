"""Settlement for people: the public list of epochs, and a person's wallet and claims."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from billing import settlement_queries as queries
from billing.services import claims, wallets
from billing.tasks.money import start
from billing.tasks.settlement import run_round
from billing.views.topups import person
from billing.wallet_forms import AddressForm, SignatureForm
from interchain_site.core.errors import DomainError


@require_GET
def settlements(request: HttpRequest) -> HttpResponse:
    """Every epoch, newest first; for anybody to check."""
    before = request.GET.get("before", "")
    page = queries.epochs_page(before=int(before) if before.isdecimal() and len(before) < 10 else None)
    return render(request, "billing/settlements.html", {"page": page, "contract": queries.contract_in_use()})


@require_GET
def settlement_detail(request: HttpRequest, sequence: int) -> HttpResponse:
    """One epoch: roots, sums, transaction; and what it added for the person who looks."""
    epoch = queries.epoch_with_posting(sequence)
    if epoch is None:
        raise Http404
    leaves = queries.leaves_of_person(epoch, request.user.pk) if request.user.is_authenticated else []
    return render(
        request, "billing/settlement_detail.html", {"epoch": epoch, "number": str(sequence), "leaves": leaves}
    )


@login_required
@require_GET
def wallet(request: HttpRequest) -> HttpResponse:
    """Where earnings are paid, what can be claimed, and what was."""
    return _wallet_page(request, AddressForm(), SignatureForm())


@login_required
@require_GET
def wallet_status(request: HttpRequest) -> HttpResponse:
    """Fragment: what can be claimed and the claims so far, for refreshing."""
    return render(request, "billing/_wallet_status.html", _status(request))


@login_required
@require_POST
def wallet_enter(request: HttpRequest) -> HttpResponse:
    """Link an entered address: first shown again for confirmation, then linked."""
    form = AddressForm(request.POST)
    if not form.is_valid():
        return _wallet_page(request, form, SignatureForm(), status=400)
    try:
        address = wallets.read_address(form.cleaned_data["address"])
        if not form.cleaned_data["confirmed"]:
            return render(request, "billing/wallet_confirm.html", {"address": address})
        wallets.link_confirmed(address=address, by=person(request), now=timezone.now())
    except DomainError as error:
        form.add_error("address", error.message)
        return _wallet_page(request, form, SignatureForm(), status=error.status)
    messages.success(request, f"Earnings are paid to {address} from the next settlement on.")
    return redirect("wallet")


@login_required
@require_POST
def wallet_sign(request: HttpRequest) -> HttpResponse:
    """Link the address that signed the challenge."""
    form = SignatureForm(request.POST)
    try:
        if form.is_valid():
            linked = wallets.link_signed(by=person(request), now=timezone.now(), **form.cleaned_data)
            messages.success(request, f"Earnings are paid to {linked.address} from the next settlement on.")
            return redirect("wallet")
    except DomainError as error:
        form.add_error("signature", error.message)
    return _wallet_page(request, AddressForm(), form, status=400)


@login_required
@require_POST
def wallet_claim(request: HttpRequest, wallet_id: int) -> HttpResponse:
    """Ask for everything a wallet can have now."""
    claims.claim(wallet_id=wallet_id, by=person(request), now=timezone.now())
    start(run_round)
    return redirect("wallet")


def _status(request: HttpRequest) -> dict[str, object]:
    user_id = person(request).pk
    history = queries.claims_of(user_id)
    return {
        "wallets": queries.wallet_balances(user_id),
        "claims": history,
        "waiting": any(claim.state in claims.UNDER_WAY for claim in history),
        "unsettled_units": queries.unsettled_units(user_id),
    }


def _wallet_page(
    request: HttpRequest, address_form: AddressForm, signature_form: SignatureForm, status: int = 200
) -> HttpResponse:
    context = {
        "address_form": address_form,
        "signature_form": signature_form,
        "challenge": wallets.challenge(user=person(request)),  # a fresh one each time: the last may be too old by now
        **_status(request),
    }
    return render(request, "billing/wallet.html", context, status=status)
