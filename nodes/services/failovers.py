"""Write down what becomes of slots that lose their device: for people, nothing is decided by it. Called inside the moves' transactions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.db.models import Case, QuerySet, Value, When
from django.utils import timezone

from nodes.agent.protocol import Action
from nodes.models import Failover, Lease
from nodes.services.replica_sets import STANDBY_SLOT
from nodes.states import LeaseState

SERVED = (LeaseState.RUNNING, LeaseState.UNHEALTHY)
_O = Failover.Outcome


def began(lease: Lease, *, reason: str = "", heard_at: datetime | None = None) -> None:
    """Note that a lease which served is lost, or failed through its device's fault; before the lease moves.

    A slot that is already being recovered goes on as the same failover: its time counts from the first loss.
    """
    if (
        lease.state not in SERVED
        or lease.action != Action.RUN.value
        or not lease.is_newest
        or lease.slot == STANDBY_SLOT
    ):
        return
    if _under_way(lease.workload_id, lease.slot).exists():
        return
    others = Lease.objects.filter(workload_id=lease.workload_id, action=Action.RUN.value, state=LeaseState.RUNNING)
    Failover.objects.create(
        workload_id=lease.workload_id,
        slot=lease.slot,
        lost_lease=lease,
        lost_generation=lease.generation,
        reason=reason,
        served_meanwhile=others.exclude(pk=lease.pk).exists(),
        heard_at=heard_at,
        noticed_at=timezone.now(),
    )


def elected(leases: Iterable[Lease], *, promoted: bool = False) -> None:
    """Note which leases were given slots, where those slots are being recovered. One query where none is."""
    given = {(lease.workload_id, lease.slot): lease for lease in leases}
    if not given:
        return
    rows = Failover.objects.filter(workload_id__in={workload_id for workload_id, _ in given}, ended_at=None)
    found = [row for row in rows if (row.workload_id, row.slot) in given]
    for row in found:
        lease = given[row.workload_id, row.slot]
        row.elected_at, row.promoted = timezone.now(), promoted
        row.new_lease, row.new_generation = lease, lease.generation
    Failover.objects.bulk_update(found, ["elected_at", "promoted", "new_lease", "new_generation"], batch_size=100)


def ran(lease: Lease) -> None:
    """Note that a lease came to run in its slot, whoever started it. One statement; none is changed where nothing was lost."""
    if not lease.is_newest or lease.action != Action.RUN.value:
        return
    outcome = Case(
        When(lost_lease=lease, then=Value(_O.RETURNED.value)),
        When(promoted=True, then=Value(_O.PROMOTED.value)),
        default=Value(_O.REPLACED.value),
    )
    _under_way(lease.workload_id, lease.slot).update(
        ended_at=timezone.now(), new_lease=lease, new_generation=lease.generation, outcome=outcome
    )


def called_off(workload_id: UUID, *, from_slot: int = 0) -> None:
    """Note that a workload's slots from this one on are not wanted any more."""
    rows = Failover.objects.filter(workload_id=workload_id, slot__gte=from_slot, ended_at=None)
    rows.update(ended_at=timezone.now(), outcome=_O.CALLED_OFF.value)


def _under_way(workload_id: UUID, slot: int) -> QuerySet[Failover]:
    return Failover.objects.filter(workload_id=workload_id, slot=slot, ended_at=None)
