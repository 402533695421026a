"""The landing page: the one page that speaks for the whole product, so it may ask every app."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from marketplace import price_table, pricing
from marketplace.models import PriceList
from marketplace.states import PriceListState
from nodes.agent.protocol import Meter

MEASURED = {
    Meter.TRANSFER: "Bytes in and out of the app’s one port.",
    Meter.STORAGE: "What the app’s volume holds, times how long.",
    Meter.COMPUTE: "Instructions its processes execute.",
    Meter.UPTIME: "While it runs and passes its health check.",
    Meter.ACTIVE_USER: "Different visitors in a calendar month.",
}


def landing(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    in_force = (
        PriceList.objects.filter(region=price_table.REGION, state=PriceListState.PUBLISHED, effective_at__lte=now)
        .prefetch_related("prices")
        .order_by("-effective_at")
        .first()
    )
    prices = in_force.prices.all() if in_force else ()
    rows = [
        {
            "meter": price.get_meter_display(),
            "usd": price.usd.normalize(),
            "per": pricing.UNITS[Meter(price.meter)].name,
        }
        | {"measured": MEASURED[Meter(price.meter)]}
        for price in prices
    ]
    commission = Decimal(settings.COMMISSION_BASIS_POINTS) / 100
    return render(
        request, "landing.html", {"price_list": in_force, "rows": rows, "commission": f"{commission.normalize():f}"}
    )
