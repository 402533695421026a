"""What devices say they sent and received, beside what the gateways saw pass. Read by screens and by trust; changes nothing.

The gateway sees bodies and first lines only of what comes through it; the device counts whole packets, and also what the app fetches itself. So
a device's claim is somewhat higher by nature, and for small traffic by a lot; clients that come by the directory it does not see at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum
from django.utils import timezone

from nodes.agent.protocol import Meter
from nodes.models import Device, GatewayCount, Lease, MeterTotal

RECENT = timedelta(days=30)
_TRANSFER, _UPTIME = _METERS = (Meter.TRANSFER.value, Meter.UPTIME.value)


@dataclass(frozen=True)
class Traffic:
    """Bytes in all. `claimed` by devices (transfer), `seen` at gateways; for a device also its apps' uptime."""

    claimed: int
    seen: int
    uptime_milliseconds: int = 0

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
    return by_device(Lease.objects.filter(device=device)).get(device.pk, Traffic(0, 0))


def of_late(device: Device | None = None) -> dict[UUID, Traffic]:
    """Return both counts by device, of all or of this one, of workloads that ran within the last 30 days; three queries.
    Reliability is drawn from this."""
    leases = Lease.objects.filter(Q(stopped_at=None) | Q(stopped_at__gt=timezone.now() - RECENT))
    return by_device(leases.filter(device=device) if device is not None else leases)


def by_device(leases: QuerySet[Lease]) -> dict[UUID, Traffic]:
    """Return both counts of the workloads of these leases that only ever ran on one device, by that device."""
    on_one = (
        Lease.objects.filter(workload_id__in=leases.order_by().values("workload_id"))
        .order_by()
        .values("workload_id")
        .annotate(devices=Count("device", distinct=True))
        .filter(devices=1)
        .values("workload_id")
    )
    device_of = dict(
        Lease.objects.filter(workload_id__in=on_one).order_by().values_list("workload_id", "device_id").distinct()
    )
    totals = MeterTotal.objects.filter(lease__workload_id__in=on_one, meter__in=_METERS).order_by()
    sums: Counter[tuple[UUID, str]] = Counter()
    for device_id, meter, total in totals.values_list("lease__device_id", "meter").annotate(Sum("total")):
        sums[device_id, meter] += int(total)
    seen: Counter[UUID] = Counter()
    for workload_id, total in (
        GatewayCount.objects.filter(workload_id__in=on_one).order_by().values_list("workload_id").annotate(Sum("bytes"))
    ):
        seen[device_of[workload_id]] += int(total)
    return {
        device_id: Traffic(sums[device_id, _TRANSFER], seen[device_id], sums[device_id, _UPTIME])
        for device_id in set(device_of.values())
    }
