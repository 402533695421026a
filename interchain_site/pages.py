"""The landing page: the one page that speaks for the whole product, so it may ask every app."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from billing import money
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
# An hour of a small website, in base units of each meter, and how people say it.
EXAMPLE = {
    Meter.UPTIME: (3_600_000, "1 hour"),
    Meter.TRANSFER: (50_000_000, "50 MB"),
    Meter.STORAGE: (240_000_000 * 3_600, "240 MB kept for the hour"),
    Meter.COMPUTE: (300_000_000, "300 million instructions"),
    Meter.ACTIVE_USER: (2, "2 new visitors this month"),
}


def landing(request: HttpRequest) -> HttpResponse:
    prices_in_force = _price_list_in_force()
    prices = prices_in_force.prices_by_meter() if prices_in_force else {}
    rows = [
        {"meter": pricing.UNITS[meter].label, "nano_usd": nano, "per": pricing.UNITS[meter].name}
        | {"measured": MEASURED[meter]}
        for meter, nano in prices.items()
    ]
    context = {
        "price_list": prices_in_force,
        "rows": rows,
        "commission": f"{settings.COMMISSION_BASIS_POINTS / 100:g}",
        "example": _example(prices) if prices else None,
    }
    return render(request, "landing.html", context)


def balance_chip(request: HttpRequest) -> HttpResponse:
    """Refresh the balance in the bar; 286 tells htmx to stop asking once nobody is signed in."""
    if not request.user.is_authenticated:
        return HttpResponse(status=286)
    return render(request, "components/balance_chip.html")


def _price_list_in_force() -> PriceList | None:
    published = PriceList.objects.filter(region=price_table.REGION, state=PriceListState.PUBLISHED)
    now = timezone.now()
    return published.filter(effective_at__lte=now).prefetch_related("prices").order_by("-effective_at").first()


def _example(prices: pricing.Prices) -> dict[str, object]:
    """Return the example bill at these prices, worked out as real charges are."""
    lines = [
        {
            "meter": pricing.UNITS[meter].label,
            "quantity": words,
            "nano_usd": pricing.price_nano_usd({meter: quantity}, prices),
        }
        for meter, (quantity, words) in EXAMPLE.items()
    ]
    owner = pricing.price_nano_usd({meter: quantity for meter, (quantity, _) in EXAMPLE.items()}, prices)
    commission, _ = money.commission_units(owner)
    return {
        "lines": lines,
        "owner_nano_usd": owner,
        "commission_nano_usd": commission,
        "total_nano_usd": owner + commission,
    }
