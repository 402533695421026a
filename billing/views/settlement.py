"""The public list of epochs, and what each added for the person who looks."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from billing import settlement_queries as queries


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
