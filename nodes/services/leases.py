"""What happens to a lease after it was opened: closing, wiping, and what its device reports."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from django.db import OperationalError, transaction
from django.utils import timezone

from interchain_site.core import audit
from interchain_site.core.models import User
from nodes.agent.protocol import LOG_TAIL_BYTES, Action, Observed, Reason, Report, Status
from nodes.errors import Busy, Conflict, Malformed, MovedMeanwhile, NotFound
from nodes.models import Device, Lease, ReplicaSet
from nodes.services import endpoints, failovers, failures, reservations, routes, texts, volume_keys
from nodes.services.wake import wake
from nodes.signals import lease_changed, slot_vacant, workload_wiped
from nodes.states import ALIVE, HOLDS_MEMORY, WANTED, DeviceState, LeaseState, transition

S = LeaseState
log = structlog.get_logger()

_WANTED_RUN = {
    Observed.PREPARING: S.PREPARING,
    Observed.RUNNING: S.RUNNING,
    Observed.UNHEALTHY: S.UNHEALTHY,
    Observed.FAILED: S.STOPPED,
}
_WANTED_STANDBY = {
    Observed.PREPARING: S.PREPARING,
    Observed.READY: S.READY,
    Observed.FAILED: S.STOPPED,
}
_WANTED_STOP = {Observed.STOPPED: S.STOPPED, Observed.FAILED: S.STOPPED, Observed.WIPED: S.STOPPED}


def move(lease: Lease, to: LeaseState, **changes: Any) -> None:
    """Move a lease and all that follows from it: its device's promises, its route, and the signal.

    Raises:
        IllegalMove, MovedMeanwhile: as `states.transition`.
    """
    before = lease.state
    transition(lease, to, revision=lease.revision + 1, **(_due(lease, to) | changes))
    if (before in HOLDS_MEMORY) != (to in HOLDS_MEMORY) or to == S.WIPED:
        reservations.refresh(lease.device_id)
    if to == S.RUNNING:
        failovers.ran(lease)
    routes.publish(lease)
    if lease.due_at is not None and "due_at" not in changes:
        slot_vacant.send(sender=Lease, workload_ids=[lease.workload_id])
    _tell(lease)


def _due(lease: Lease, to: LeaseState) -> dict[str, Any]:
    """Return since when the election is to look at the slot of a lease that moves; what follows, it decides."""
    if to == S.RUNNING and lease.is_pending:
        return {"due_at": timezone.now()}  # it may take over (nodes/services/handovers.py)
    if to in ALIVE:
        return {"due_at": None} if lease.due_at else {}
    if to in (S.LOST, S.STOPPED) and lease.action in WANTED:
        return {"due_at": timezone.now()}
    return {}


def close_lease(*, lease_id: UUID, by: User | None, reason: str = "") -> None:
    """Want the lease's whole workload stopped (`close_workload`).

    Raises:
        NotFound: there is no such lease.
    """
    found = Lease.objects.filter(pk=lease_id).values_list("workload_id", flat=True).first()
    if found is None:
        raise NotFound("There is no such lease.")
    close_workload(workload_id=found, by=by, reason=reason)


def close_workload(*, workload_id: UUID, by: User | None, reason: str = "") -> None:
    """Want a workload stopped everywhere, its data kept. Its devices say when it is; closing twice changes nothing."""
    with transaction.atomic():
        ReplicaSet.objects.filter(pk=workload_id).update(wanted=False, due_at=None, tries=0)
        failovers.called_off(workload_id)
        rows = Lease.objects.filter(workload_id=workload_id, action__in=WANTED).select_related("device")
        for lease in rows.select_for_update(of=("self",)).order_by("slot", "generation"):
            close_locked(lease, reason=reason)
            audit.record("lease_closed", subject=f"lease:{lease.pk}", by=by, reason=reason)


def close_locked(lease: Lease, *, reason: str) -> None:
    """Turn a wanted lease that the caller has locked to draining, and wake its device. A removed device cannot be asked."""
    now = timezone.now()
    changes: dict[str, Any] = {"action": Action.STOP.value, "closed_at": now, "due_at": None}
    if reason:
        changes["message"] = texts.clean(reason, 500)
    if lease.device.state == DeviceState.REVOKED:
        move(lease, S.STOPPED, stopped_at=now, **changes)
        return
    move(lease, S.DRAINING, **changes)
    wake(lease.device_id)


def settle_removed(lease_id: UUID) -> None:
    """Bring a lease of a removed device to where it can be without asking the device. Idempotent."""
    with transaction.atomic():
        lease = get(lease_id)
        now = timezone.now()
        if lease.state in ALIVE | {S.LOST} and lease.action in WANTED:
            # Stopped without a reason of its own: whoever wants it to run places it again, elsewhere.
            Lease.objects.filter(pk=lease.pk).update(reason="")
            close_locked(lease, reason="Its device was removed by its owner.")
            note_due(lease)
        elif lease.state == S.DRAINING:
            move(lease, S.STOPPED, stopped_at=now)
        elif lease.state == S.STOPPED and lease.action == Action.WIPE.value:
            move(lease, S.WIPED, wiped_at=now, message="The device was removed by its owner and gave no receipt.")
            volume_keys.forget(device_id=lease.device_id, workload_id=lease.workload_id)  # all that can still be done
            tell_if_wiped(lease, receipt="")


def tell_if_wiped(lease: Lease, *, receipt: str) -> None:
    """Send `workload_wiped` if this was the last lease of its workload to be wiped."""
    if not Lease.objects.filter(workload_id=lease.workload_id).exclude(state=S.WIPED).exists():
        workload_wiped.send(sender=Lease, workload_id=lease.workload_id, receipt=receipt)


def wipe_lease(*, lease_id: UUID, by: User | None) -> None:
    """Want nothing left of the workload on any device. Its leases must be stopped; each device answers with a receipt.

    Raises:
        NotFound: there is no such lease.
        Conflict: some of it still runs; close it first.
    """
    with transaction.atomic():
        workload_id = get(lease_id).workload_id
        unwiped = Lease.objects.filter(workload_id=workload_id).exclude(state=S.WIPED)
        leases = list(unwiped.select_for_update(of=("self",)).select_related("device"))
        if any(lease.state != S.STOPPED for lease in leases):
            raise Conflict("Part of this is still running or stopping. Stop it and wait, then delete its data.")
        for lease in leases:
            Lease.objects.filter(pk=lease.pk).update(action=Action.WIPE.value)
            wake(lease.device_id)
        audit.record("lease_wipe_wanted", subject=f"lease:{lease_id}", by=by, workload=str(workload_id))
        for lease in leases:
            if lease.device.state == DeviceState.REVOKED:
                settle_removed(lease.pk)


def handle_report(*, device: Device, report: Report) -> None:
    """Take over what a device sees of its leases. Each lease is its own transaction, and an unknown or outdated
    generation is passed over: the device will learn from its desired state.

    Raises:
        Malformed: a status cannot be true, e.g. a port that is none.
        Busy: the database was in the way of at least one; the device reports again.
    """
    for status in report.statuses:
        endpoints.check_port(device.endpoint_host, status.host_port)
        if not 0 <= status.restarts < 2**31:
            raise Malformed("Report.statuses.restarts: out of range")
    failed = False
    for status in report.statuses:
        try:
            _apply(device, status)
        except (OperationalError, MovedMeanwhile) as error:
            failed = True
            log.warning("status_not_applied", lease=status.lease_id, error=str(error))
    if failed:
        raise Busy


def mark_lost(lease_id: UUID, *, heard_at: datetime | None = None) -> None:
    """Note that the lease's device went silent, last heard at that time; it may come back and go on. Idempotent."""
    mark_all_lost([lease_id], heard_at=heard_at)


def mark_all_lost(lease_ids: Collection[UUID], *, heard_at: datetime | None = None) -> None:
    """Note of all these leases that their device went silent, so that their slots are given away together. Idempotent."""
    with transaction.atomic():
        rows = Lease.objects.filter(pk__in=lease_ids, state__in=ALIVE).select_related("device")
        lost = list(rows.select_for_update(of=("self",)).order_by("workload_id", "slot"))
        for lease in lost:
            failovers.began(lease, heard_at=heard_at)
            move(lease, S.LOST, due_at=timezone.now())
            audit.record("lease_lost", subject=f"lease:{lease.pk}", device=str(lease.device_id))
        if lost:
            slot_vacant.send(sender=Lease, workload_ids=list(dict.fromkeys(lease.workload_id for lease in lost)))


def note_due(lease: Lease) -> None:
    """Have somebody else take the slot of a lease that the caller closed, if its workload is still wanted."""
    if lease.is_newest:
        Lease.objects.filter(pk=lease.pk).update(due_at=timezone.now())
        slot_vacant.send(sender=Lease, workload_ids=[lease.workload_id])


def get(lease_id: UUID) -> Lease:
    """Return the lease, locked.

    Raises:
        NotFound: there is no such lease.
    """
    lease = Lease.objects.select_for_update(of=("self",)).select_related("device").filter(pk=lease_id).first()
    if lease is None:
        raise NotFound("There is no such lease.")
    return lease


@transaction.atomic
def _apply(device: Device, status: Status) -> None:
    try:
        lease = get(UUID(status.lease_id))
    except (NotFound, ValueError):
        return
    if lease.device_id != device.pk or lease.generation != status.generation:
        return
    if lease.state in (S.STOPPED, S.WIPED):
        return
    target = _target(lease, status.observed)
    if target is None or target == lease.state:
        _note(lease, _seen(lease, status))
    else:
        if target == S.STOPPED and status.reason.value in failures.DEVICE_FAULTS:
            failovers.began(lease, reason=status.reason.value)
        move(lease, target, **(_seen(lease, status) | _stamps(lease, target)))


def _target(lease: Lease, observed: Observed) -> LeaseState | None:
    if lease.action == Action.STANDBY.value:
        return _WANTED_STANDBY.get(observed)
    if lease.action == Action.RUN.value:
        if observed in (Observed.STOPPED, Observed.WIPED):
            # Wanted and gone: the device starts it again. Before the first start it is simply not there yet.
            return S.PREPARING if lease.state in (S.RUNNING, S.UNHEALTHY, S.LOST) else None
        return _WANTED_RUN.get(observed)
    return _WANTED_STOP.get(observed)


def _seen(lease: Lease, status: Status) -> dict[str, Any]:
    log_tail = {"log_tail": texts.clean(status.log_tail, LOG_TAIL_BYTES)}
    if lease.action not in WANTED:
        # Why it was closed is said already; while it stops only the log is news.
        return log_tail
    return log_tail | {
        "host_port": status.host_port,
        "reason": status.reason.value,
        "message": texts.clean(status.message, 500),
        "image_id": texts.clean(status.image_id, 80),
        "restarts": status.restarts,
        "encrypted": status.encrypted,
        "runtime": texts.clean(status.runtime, 10),
    }


def _stamps(lease: Lease, target: LeaseState) -> dict[str, Any]:
    now = timezone.now()
    if target == S.RUNNING and lease.state not in (S.UNHEALTHY, S.LOST):
        return {"running_at": now}
    if target == S.STOPPED:
        closed = {"closed_at": lease.closed_at or now, "stopped_at": now, "host_port": 0}
        return closed | ({"action": Action.STOP.value} if lease.action in WANTED else {})
    return {}


def _note(lease: Lease, seen: dict[str, Any]) -> None:
    changes = {name: value for name, value in seen.items() if getattr(lease, name) != value}
    if not changes:
        return
    if "host_port" in changes:
        changes["revision"] = lease.revision + 1
    Lease.objects.filter(pk=lease.pk).update(**changes)
    for name, value in changes.items():
        setattr(lease, name, value)
    if "host_port" in changes:
        routes.publish(lease)
    if "reason" in changes:
        _tell(lease)


def _tell(lease: Lease) -> None:
    lease_changed.send(
        sender=Lease,
        lease_id=lease.pk,
        workload_id=lease.workload_id,
        state=str(lease.state),
        reason=str(Reason(lease.reason).value),
    )
