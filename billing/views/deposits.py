"""Depositing NTC from a wallet: the person's reference, the browser wallet's way, and what is on its way."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from billing import queries, wallet_queries
from billing.chain import client, deployments
from billing.services import chain_accounts, deposit_calls
from billing.views.topups import person
from billing.views.wallet_flow import answers, browser_chain, refuse, wallet_flow
from billing.wallet_forms import DepositForm


@login_required
@require_GET
def deposit(request: HttpRequest) -> HttpResponse:
    """How to deposit, and the deposits so far."""
    context = {
        "form": DepositForm(),
        "deployment": deployments.recorded(),
        "chain": browser_chain(),
        **_status(request),
    }
    return render(request, "billing/deposit.html", context)


@login_required
@require_GET
def deposit_status(request: HttpRequest) -> HttpResponse:
    """Fragment: the deposits, refreshed while one is on its way."""
    return render(request, "billing/_deposits.html", _status(request))


@login_required
@require_POST
@wallet_flow
def deposit_wallet(request: HttpRequest) -> dict[str, Any]:
    """The next thing the browser's wallet has to do."""
    form = DepositForm(request.POST)
    if not form.is_valid():
        raise refuse(form)
    wish = deposit_calls.Wish(form.units(), str(request.POST.get("address", "")), form.cleaned_data["approve"])
    given = answers(request, "permit", "deadline", "approval", "hash")
    return deposit_calls.next_step(
        wish=wish, answers=given, user=person(request), chain=client.connect(), now=timezone.now()
    )


def _status(request: HttpRequest) -> dict[str, object]:
    user = person(request)
    reference = chain_accounts.reference_of(user=user)
    rows = wallet_queries.deposits_of(user.pk, reference=reference)
    return {
        "reference": reference,
        "deposits": rows,
        "waiting": any(row.state != "credited" for row in rows),
        "available": queries.available_units(user.pk),
    }
