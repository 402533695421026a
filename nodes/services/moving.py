"""Get apps off a device: somewhere else first where that is possible, so that they are away for seconds only."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import structlog
from django.db import transaction

from interchain_site.core.errors import DomainError
from nodes.agent.protocol import Workload
from nodes.models import Device, Lease, Snapshot
from nodes.services import leases, placement, replica_sets, snapshots
from nodes.states import ALIVE

log = structlog.get_logger()


def move_away(device: Device, *, reason: str, which: Callable[[Workload], bool] = lambda workload: True) -> int:
    """Move the device's apps elsewhere; returns how many were asked to leave. The device must not take apps any more.

    1. A lease on another device, while this one still runs. 2. Where none can take it, or its data is here: stop it;
    the election looks for room, or for this device, again and again. A lease that changed meanwhile is passed over.

    Args:
        reason: said to the publisher.
        which: only leases of these workloads.
    """
    moved = 0
    newest = Lease.objects.filter(device=device, state__in=ALIVE, action="run").order_by("opened_at")
    for lease_id, workload_id in newest.values_list("pk", "workload_id"):
        try:
            moved += _move(lease_id, workload_id, reason, which)
        except DomainError as error:
            log.warning("lease_not_moved", lease=str(lease_id), error=error.message)
    return moved


def _move(lease_id: UUID, workload_id: UUID, reason: str, which: Callable[[Workload], bool]) -> bool:
    with transaction.atomic():
        replica_sets.lock(workload_id)
        lease = leases.get(lease_id)
        if lease.action != "run" or lease.state not in ALIVE or not which(lease.workload):
            return False
        if not lease.is_newest:
            return False  # another copy is about to take over from it
        try:
            if not lease.has_volume:
                with transaction.atomic():
                    placement.relocate(lease_id=lease_id)
                return True
        except DomainError as error:
            log.info("lease_moves_later", lease=str(lease_id), why=error.message)
            lease = leases.get(lease_id)
        # Its own trouble is over with it: what is asked to run is placed again, not given up.
        Lease.objects.filter(pk=lease.pk).update(reason="")
        if lease.has_volume:
            snapshots.want(lease=lease, cause=Snapshot.Cause.MOVE)
        leases.close_locked(lease, reason=reason)
        leases.note_due(lease)
        return True
