"""The rows that a lease's charges add up in: opened with the lease, read and written by the thousand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from marketplace.models import ChargePeriod, Deployment, PriceList
from nodes.models import Lease
from nodes.queries import leases_by_id

_MOVING = (
    "totals",
    "evidence",
    "nano_usd",
    "carry_atto_usd",
    "commission_carry",
    "owner_units",
    "commission_units",
    "step",
    "charged_at",
    "closed_at",
)


def open_for_lease(
    deployment: Deployment, *, lease_id: UUID, owner_id: int, device_id: UUID | str, now: datetime
) -> ChargePeriod:
    """Return the open period of a lease, making it if this lease has none yet; repeating changes nothing."""
    period, _ = ChargePeriod.objects.get_or_create(
        lease_id=lease_id,
        closed_at=None,
        defaults={
            "deployment": deployment,
            "price_list_id": deployment.price_list_id,
            "publisher_id": deployment.app.publisher_id,
            "owner_id": owner_id,
            "device_id": str(device_id),
            "opened_at": now,
            "charged_at": now,
        },
    )
    return period


def open_for_new_lease(deployment: Deployment, lease: Lease, *, now: datetime) -> ChargePeriod:
    """Return the first period of a lease opened in this very transaction: nobody else can have made it yet."""
    return ChargePeriod.objects.create(
        lease_id=lease.pk,
        deployment=deployment,
        price_list_id=deployment.price_list_id,
        publisher_id=deployment.app.publisher_id,
        owner_id=lease.device.owner_id,
        device_id=str(lease.device_id),
        opened_at=now,
        charged_at=now,
    )


def open_periods(lease_ids: Sequence[UUID]) -> dict[UUID, ChargePeriod]:
    """Return the open period of each lease, locked, with deployment, app and prices: three queries for any number."""
    found = list(
        ChargePeriod.objects.select_for_update(of=("self",))
        .select_related("deployment__app")
        .filter(lease_id__in=lease_ids, closed_at=None)
        .order_by("id")
    )
    wanted = {period.price_list_id for period in found}
    lists = {row.pk: row for row in PriceList.objects.filter(pk__in=wanted).prefetch_related("prices")}
    for period in found:
        period.price_list = lists[period.price_list_id]
    return {period.lease_id: period for period in found}


def save_all(periods: Sequence[ChargePeriod]) -> None:
    """Write the moving columns of many periods: one upsert, because Django's `bulk_update` takes seconds for a thousand."""
    ChargePeriod.objects.bulk_create(periods, update_conflicts=True, unique_fields=["id"], update_fields=list(_MOVING))


def adopt_missing(lease_ids: Sequence[UUID], *, now: datetime) -> None:
    """Open the period of any lease of ours that has none, so that no reading is ever passed over."""
    known = set(ChargePeriod.objects.filter(lease_id__in=lease_ids).values_list("lease_id", flat=True))
    strange = [lease_id for lease_id in lease_ids if lease_id not in known]
    if not strange:
        return
    leases = leases_by_id(strange)
    deployments = Deployment.objects.select_related("app").in_bulk([lease.workload_id for lease in leases.values()])
    for lease in leases.values():
        deployment = deployments.get(lease.workload_id)
        if deployment is not None:
            open_for_lease(
                deployment, lease_id=lease.lease_id, owner_id=lease.owner_id, device_id=lease.device_id, now=now
            )
