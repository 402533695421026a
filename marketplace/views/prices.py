"""The public price page."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from billing.money import BASIS_POINTS
from marketplace import queries


@require_GET
def prices(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    context = {
        "lists": queries.price_lists_in_force(now),
        "coming": queries.price_lists_to_come(now),
        "commission_percent": settings.COMMISSION_BASIS_POINTS * 100 // BASIS_POINTS,
        "million_instructions_per_second": queries.typical_instructions_per_second() // 10**6,
    }
    return render(request, "marketplace/prices.html", context)
