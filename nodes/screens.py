"""What the device pages show, put together from queries. Constant numbers of queries, whatever runs on the device."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import Sum

from nodes.agent.protocol import Meter
from nodes.meters import readable
from nodes.models import Device, Lease, MeterTotal
from nodes.services import liveness
from nodes.states import HOLDS_MEMORY

MOST_LEASES = 50


def install_command(token: str) -> str:
    """Return the one command that makes a computer this device."""
    return f"curl -fsSL {settings.PORTAL_URL}/install/{token} | sudo sh"


def device(device: Device) -> dict[str, Any]:
    """Return the context of a device's page: its state, leases without what they run, and its meters."""
    leases = Lease.objects.filter(device=device, state__in=HOLDS_MEMORY).order_by("opened_at")
    sums = MeterTotal.objects.filter(lease__device=device).values("meter").annotate(sum=Sum("total"))
    totals = {row["meter"]: row["sum"] for row in sums}
    return {
        "device": device,
        "last_heard_at": liveness.last_heard(device),
        "load": liveness.load_of(device),
        "leases": leases[:MOST_LEASES],
        "meters": [
            {"name": meter.value, "total": readable(meter, totals[meter.value])}
            for meter in Meter
            if meter.value in totals
        ],
    }
