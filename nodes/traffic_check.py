"""What devices say they sent and received, beside what the gateways saw pass. Read by screens and by trust; changes nothing.

The gateway sees bodies and first lines only of what comes through it; the device counts whole packets, and also what the app fetches itself. So
a device's claim is somewhat higher by nature, and for small traffic by a lot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Sum

from nodes.agent.protocol import Meter
from nodes.models import Device, GatewayCount, Lease, MeterTotal


@dataclass(frozen=True)
class Traffic:
    """Bytes in all. `claimed` by devices (transfer), `seen` at gateways."""

    claimed: int
    seen: int

    @property
    def ratio(self) -> float | None:
        """Claimed for each byte seen; None while nothing was seen."""
        return self.claimed / self.seen if self.seen else None


def of_workloads(workload_ids: Sequence[UUID]) -> dict[UUID, Traffic]:
    """Return both counts of each workload, over all its leases; two queries."""
    totals = MeterTotal.objects.filter(lease__workload_id__in=workload_ids, meter=Meter.TRANSFER.value).order_by()
    claimed = dict(totals.values_list("lease__workload_id").annotate(Sum("total")))
    counts = GatewayCount.objects.filter(workload_id__in=workload_ids).order_by()
    seen = dict(counts.values_list("workload_id").annotate(Sum("bytes")))
    return {each: Traffic(int(claimed.get(each, 0)), int(seen.get(each, 0))) for each in workload_ids}


def of_device(device: Device) -> Traffic:
    """Return both counts of the workloads that only ever ran on this device: of a shared one nobody can tell whose bytes
    the gateway saw."""
    mine = Lease.objects.filter(device=device).values("workload_id")
    shared = Lease.objects.filter(workload_id__in=mine).exclude(device=device).values("workload_id")
    own = Lease.objects.filter(device=device).exclude(workload_id__in=shared)
    each = of_workloads(list(own.order_by().values_list("workload_id", flat=True).distinct()))
    return Traffic(sum(found.claimed for found in each.values()), sum(found.seen for found in each.values()))
