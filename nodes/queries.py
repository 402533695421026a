"""What other apps and screens read of devices, leases and totals. Nothing here changes anything."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Count, Exists, Max, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from interchain_site.core.models import User
from nodes.agent import protocol
from nodes.agent.protocol import Action, Desired, DesiredLease, Meter, Mode, Restore
from nodes.errors import NotFound
from nodes.models import Device, Lease, MeterTotal, Rollout, Snapshot
from nodes.prepared import Given, Prepared
from nodes.services import releases, spot_checks, tunnels, volume_keys
from nodes.services.routes import url_of
from nodes.states import HOLDS_MEMORY, DeviceState, LeaseState, SnapshotState

_BEST_OFF = (
    LeaseState.RUNNING,
    LeaseState.UNHEALTHY,
    LeaseState.PREPARING,
    LeaseState.OFFERED,
    LeaseState.READY,
    LeaseState.LOST,
    LeaseState.DRAINING,
    LeaseState.STOPPED,
    LeaseState.WIPED,
)
_MODES = {DeviceState.PAUSED: Mode.PAUSED, DeviceState.DRAINING: Mode.DRAINING}


@dataclass(frozen=True)
class LeaseSummary:
    """What a publisher may know of a lease."""

    lease_id: UUID
    workload_id: UUID
    generation: int
    device_id: UUID
    device_name: str
    owner_id: int
    region: str
    state: str
    action: str
    reason: str
    message: str
    log_tail: str
    host_port: int
    url: str
    restarts: int
    opened_at: datetime
    state_changed_at: datetime
    data_of: datetime | None  # when the snapshot was taken that its data began with; None: its own volume
    running_since: datetime | None  # None while it does not run
    stopped_at: datetime | None
    runtime: str = ""  # protocol.Runtime; "" while it is unknown
    has_volume: bool = False  # whether it keeps data on its device


def lease_summary(workload_id: str | UUID) -> LeaseSummary | None:
    """Return the lease that stands for a workload, or None if it was never leased."""
    return lease_summaries([workload_id]).get(UUID(str(workload_id)))


def lease_summaries(workload_ids: Sequence[str | UUID]) -> dict[UUID, LeaseSummary]:
    """Return the lease that stands for each workload that has one, in one query: of its replicas the one that is best off."""
    # While one copy takes over from another, that one still stands for the workload.
    standing = Q(is_newest=True) | Q(action=Action.RUN.value)
    leases = Lease.objects.filter(standing, workload_id__in=workload_ids).exclude(action=Action.STANDBY.value)
    leading: dict[UUID, Lease] = {}
    for lease in leases.select_related("device", "restore_from"):
        known = leading.get(lease.workload_id)
        if known is None or _standing(lease) < _standing(known):
            leading[lease.workload_id] = lease
    return {workload_id: _summary(lease) for workload_id, lease in leading.items()}


def last_rollout(workload_id: UUID) -> Rollout | None:
    """Return the newest change of what a workload runs."""
    return Rollout.objects.filter(workload_id=workload_id).order_by("-began_at").first()


def leases_by_id(lease_ids: Sequence[UUID]) -> dict[UUID, LeaseSummary]:
    """Return these leases, whichever generation, in one query: for charging, which needs device, owner and region."""
    return {
        lease.pk: _summary(lease)
        for lease in Lease.objects.filter(pk__in=lease_ids).select_related("device", "restore_from")
    }


def usage_totals(*, lease_ids: Sequence[UUID]) -> dict[UUID, dict[Meter, int]]:
    """Return the cumulative totals in base units, active users included; a meter never read is absent."""
    totals: dict[UUID, dict[Meter, int]] = {lease_id: {} for lease_id in lease_ids}
    for row in MeterTotal.objects.filter(lease_id__in=lease_ids):
        totals[row.lease_id][Meter(row.meter)] = row.total
    return totals


def leases_with_new_readings(*, after: int, limit: int) -> list[tuple[UUID, int]]:
    """Return leases whose totals changed after this place in the order of changes, with their own place, oldest first.

    Places are unique per lease and become visible in order, so the last one returned is the next `after`.
    """
    rows = MeterTotal.objects.filter(sequence__gt=after).values("lease_id").annotate(place=Max("sequence"))
    return [(row["lease_id"], row["place"]) for row in rows.order_by("place")[:limit]]


def evidence_for(lease_id: UUID, meter: Meter | None = None) -> dict[Meter, int | None]:
    """Return per meter the id of the signed batch its total rests on; None for what the gateway counted."""
    rows = MeterTotal.objects.filter(lease_id=lease_id)
    if meter is not None:
        rows = rows.filter(meter=meter.value)
    return {Meter(row.meter): row.batch_id for row in rows}


def desired_of(device: Device, *, beside: Desired | None = None) -> Desired:
    """Return all the portal wants of a device; `beside` is `desired_beside_leases`, when the caller has asked already."""
    wanted = list(_wanted(device.pk, _recently()).select_related("restore_from"))
    keys = volume_keys.of_device(device) if any(lease.has_volume for lease in wanted) else {}
    leases = tuple(
        DesiredLease(
            str(lease.pk),
            lease.generation,
            Action(lease.action),
            lease.workload,
            _restore(lease),
            str(lease.copy or ""),
            max(0, lease.slot),
            keys.get(str(lease.workload_id), "") if lease.has_volume else "",
        )
        for lease in wanted
    )
    return dataclasses.replace(beside or desired_beside_leases(device), leases=leases)


def desired_etag(device: Device, *, beside: Desired) -> str:
    """Return a name for what `desired_of` would say now, without its workloads: a lease's workload never changes.

    One query; nothing is decrypted. Most polls are answered with it alone.
    """
    leases = list(_named.rows(device.pk, _recently()))
    said = [protocol.to_json(beside), repr(leases).encode()]
    return f'"{hashlib.sha256(b"|".join(said)).hexdigest()}"'


def _restore(lease: Lease) -> Restore:
    return Restore(str(lease.restore_from.pk), lease.restore_from.restic_id) if lease.restore_from else Restore()


def _recently() -> datetime:
    return timezone.now() - timedelta(seconds=2 * settings.READING_INTERVAL_SECONDS)


def _wanted(device_id: UUID | Given, recently: datetime | Given) -> QuerySet[Any]:
    """What is stopped stays listed until its last readings are in; where it keeps data, until that is wiped, because the
    device goes on counting what it holds.
    """
    newer = Lease.objects.filter(
        workload_id=OuterRef("workload_id"), generation__gt=OuterRef("generation"), has_volume=True
    )
    keeps_data = Q(has_volume=True) & ~Exists(newer)  # not the newest of all: that one may have no volume
    stopped = Q(state=LeaseState.STOPPED) & (Q(action=Action.WIPE.value) | Q(stopped_at__gte=recently) | keeps_data)
    copy = Snapshot.objects.filter(lease=OuterRef("pk"), state=SnapshotState.WANTED).values("pk")[:1]
    wanted = Lease.objects.filter(Q(state__in=HOLDS_MEMORY) | stopped, device_id=device_id)
    return wanted.annotate(copy=Subquery(copy)).order_by("opened_at", "generation")


_named: Prepared[Lease] = Prepared(
    lambda: _wanted(Given(0, Lease._meta.pk), Given(1, Lease._meta.get_field("stopped_at"))).values_list(
        "pk", "generation", "action", "restore_from", "copy", "slot"
    )
)


def desired_beside_leases(device: Device) -> Desired:
    """Return what the portal wants of a device but for its leases. One query, and one more where it can update itself."""
    return Desired(
        tunnel=tunnels.wanted(device),
        reading_interval_seconds=settings.READING_INTERVAL_SECONDS,
        limits=device.both_limits[0],
        mode=_MODES.get(DeviceState(device.state), Mode.OPEN),
        new_key=device.new_key_wanted,
        release=release.version if (release := releases.wanted_by(device)) else "",
        spot_check=spot_checks.handed_out(device),
        instructions_per_second=int(device.benchmark.get("proven_rate", 0)),
        self_stop_seconds=settings.SELF_STOP_SECONDS,
        directory_interval_seconds=settings.DIRECTORY_INTERVAL_SECONDS,
    )


def devices_of(user: User) -> QuerySet[Device]:
    """Return a person's devices with `lease_count`, the number of workloads that run or are about to."""
    running = Count("leases", filter=Q(leases__state__in=HOLDS_MEMORY))
    return Device.objects.filter(owner=user).annotate(lease_count=running)


def device_of(user: User, device_id: UUID) -> Device:
    """Return a person's own device.

    Raises:
        NotFound: they have no such device.
    """
    device = devices_of(user).filter(pk=device_id).first()
    if device is None:
        raise NotFound("You have no such device.")
    return device


def _standing(lease: Lease) -> tuple[int, int]:
    return _BEST_OFF.index(LeaseState(lease.state)), -lease.generation


def _summary(lease: Lease) -> LeaseSummary:
    runs = lease.state in (LeaseState.RUNNING, LeaseState.UNHEALTHY)
    return LeaseSummary(
        lease_id=lease.pk,
        workload_id=lease.workload_id,
        generation=lease.generation,
        device_id=lease.device_id,
        device_name=lease.device.name,
        owner_id=lease.device.owner_id,
        region=lease.device.region,
        state=lease.state,
        action=lease.action,
        reason=lease.reason,
        message=lease.message,
        log_tail=lease.log_tail,
        host_port=lease.host_port,
        url=url_of(lease.name),
        restarts=lease.restarts,
        opened_at=lease.opened_at,
        state_changed_at=lease.state_changed_at,
        data_of=lease.restore_from.taken_at if lease.restore_from else None,
        running_since=lease.running_at if runs else None,
        stopped_at=lease.stopped_at,
        runtime=lease.runtime,
        has_volume=lease.has_volume,
    )
