"""Where a workload's data is, and so where it may start.

Data is on the device that last ran the workload, and in its snapshots. It starts where the data is. It starts elsewhere only from a
snapshot: when the device has been away for DATA_FAILOVER_SECONDS (a short absence costs less than what was written since the
snapshot), or when it left the device in order, with a copy made after it had stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from nodes.agent import protocol
from nodes.errors import NoDevice
from nodes.models import Device, Lease, Snapshot, SnapshotRepository
from nodes.services import willingness
from nodes.states import DeviceState, LeaseState, SnapshotState


def last_holder(workload_id: UUID) -> Lease | None:
    """Return the newest lease of a workload that left data on a device that is still somebody's."""
    kept = Lease.objects.filter(workload_id=workload_id, has_volume=True).exclude(state=LeaseState.WIPED)
    return (
        kept.exclude(device__state=DeviceState.REVOKED)
        .select_related("device", "restore_from")
        .order_by("-generation")
        .first()
    )


def home_of(workload: protocol.Workload) -> Device | None:
    """Return the one device that may run the workload because it keeps its data; None when any device may.

    Raises:
        NoDevice: its data is being copied, and then it may start elsewhere.
    """
    if not workload.volume_path:
        return None
    last = last_holder(UUID(workload.id))
    if last is None or restores(last):
        return None
    return last.device


def restores(last: Lease) -> bool:
    """Whether the workload may begin elsewhere with its newest snapshot, though the device of this lease has newer data.

    Raises:
        NoDevice: it may in a moment, once the copy that was begun is done.
    """
    newest = newest_snapshot(last.workload_id)
    if newest is not None and newest.cause == Snapshot.Cause.MOVE and newest.lease_id == last.pk:
        return True  # the device makes it once the lease has stopped, and nothing is written after that
    device = last.device
    if device.state == DeviceState.OFFLINE:
        return newest is not None and timezone.now() > _waited_at(device)
    copying = Snapshot.objects.filter(lease=last, state=SnapshotState.WANTED, cause=Snapshot.Cause.MOVE)
    if not willingness.takes(device) and copying.exists():
        raise NoDevice("Its data is being copied, so that it can start on another device. That takes a moment.")
    return False


def waits_until(newest: Iterable[Lease], *, now: datetime) -> datetime | None:
    """Return when the first of these lost leases' data will have waited long enough for its device; None where none waits."""
    ends = (_waited_at(last.device) for last in newest if last.has_volume and last.state == LeaseState.LOST)
    return min((end for end in ends if end > now), default=None)


def _waited_at(device: Device) -> datetime:
    return (device.last_seen_at or device.created_at) + timedelta(seconds=settings.DATA_FAILOVER_SECONDS)


def newest_snapshot(workload_id: UUID) -> Snapshot | None:
    """Return the newest snapshot of a workload that can be restored."""
    taken = Snapshot.objects.filter(repository_id=workload_id, state=SnapshotState.TAKEN)
    return taken.order_by("-taken_at").first()


def begins_with(workload: protocol.Workload, device: Device) -> Snapshot | None:
    """Return the snapshot a lease on this device is to begin with; None where the device's own volume is right, or there is no data.

    Call in the transaction that opens the lease: a snapshot the publisher chose is taken up by it.
    """
    if not workload.volume_path:
        return None
    workload_id = UUID(workload.id)
    repository = SnapshotRepository.objects.select_related("restore_wanted").filter(pk=workload_id).first()
    if repository is not None and repository.restore_wanted is not None:
        SnapshotRepository.objects.filter(pk=workload_id).update(restore_wanted=None)
        return repository.restore_wanted
    last = last_holder(workload_id)
    if last is not None and last.device_id == device.pk:
        if last.restore_from is None or last.running_at is not None:
            return None
        if last.restore_from.state == SnapshotState.TAKEN:
            return last.restore_from  # half of it may be there; and the publisher may have chosen an older one
    return newest_snapshot(workload_id)
