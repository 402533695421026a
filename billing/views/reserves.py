"""Reserves for everybody: what is owed, what the contract holds, and how to check one's own part of it."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from billing import reserve_queries, verifier_archive
from billing.services import reserves as snapshots
from billing.views.topups import person
from interchain_site.core.canonical import canonical_json


@require_GET
def reserves(request: HttpRequest) -> HttpResponse:
    """The public page."""
    page = reserve_queries.reserves_page(user_id=request.user.pk if request.user.is_authenticated else None)
    context = {
        "page": page,
        "seconds": settings.RESERVES_SECONDS,
        "confirmations": settings.ETHEREUM_CONFIRMATIONS,
        "verifier": verifier_archive.NAME,
        "verifier_sha256": verifier_archive.sha256(),
    }
    return render(request, "billing/reserves.html", context)


@login_required
@require_GET
def reserves_proof(request: HttpRequest) -> HttpResponse:
    """The reader's own balance in the newest snapshot, as a file."""
    response = HttpResponse(canonical_json(snapshots.proof(user=person(request))), content_type="application/json")
    response["Content-Disposition"] = 'attachment; filename="interchain-reserves.json"'
    return response


@require_GET
def verifier(request: HttpRequest) -> HttpResponse:
    """The program that checks proof files, for anybody."""
    response = HttpResponse(verifier_archive.build(), content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="{verifier_archive.NAME}"'
    return response
