"""What screens show of a workload's replicas, and of what happened when one lost its device. Nothing here changes anything."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from interchain_site.core.templatetags.ui import duration
from nodes.agent.protocol import Action, Reason
from nodes.models import Device, Failover, Lease
from nodes.services import succession
from nodes.services.replica_sets import STANDBY_SLOT
from nodes.states import DeviceState, LeaseState

FAILOVERS_SHOWN = 10
_CAUSES = {
    "": "stopped answering",
    Reason.DECLINED.value: "was taken back by its owner",
    Reason.DEVICE_ERROR.value: "could not go on",
}


@dataclass(frozen=True)
class ReplicaRow:
    """One replica as its publisher may see it: of the device no more than the name its owner shows, and the region."""

    number: int  # from 1, as people count; 0: the warm standby
    device: str  # empty: no device was found yet
    region: str
    generation: int
    state: str
    state_label: str
    since: datetime | None
    serves: bool  # whether gateway and directory send clients there

    @property
    def role(self) -> str:
        return "active" if self.number else "standby"

    @property
    def reachable(self) -> str:
        """Whether clients get there, in words."""
        if self.serves:
            return "yes"
        return {LeaseState.LOST.value: "no answer", LeaseState.READY.value: "when it is needed"}.get(
            self.state, "not yet"
        )


@dataclass(frozen=True)
class FailoverRow:
    """One loss of a device, and what became of it."""

    number: int
    noticed_at: datetime
    lost: str
    cause: str
    lost_generation: int
    new_device: str
    new_generation: int | None
    outcome: str
    outcome_label: str
    served_meanwhile: bool
    silent_seconds: float | None  # between the last word of the device and the notice
    election_seconds: float | None
    recovery_seconds: float | None

    @property
    def recovered_in(self) -> str:
        return seconds_in_words(self.recovery_seconds)


def replicas_of(workload_id: UUID, *, wanted: int) -> list[ReplicaRow]:
    """Return a workload's replicas in order, the standby last; those of `wanted` that have no device yet too. One query."""
    rows = Lease.objects.filter(workload_id=workload_id, action__in=(Action.RUN.value, Action.STANDBY.value))
    leases = list(rows.select_related("device").order_by("slot", "generation"))
    serving = {lease.pk for lease in succession.in_order(leases)}
    found = [_replica(lease, serving=lease.pk in serving) for lease in leases]
    have = {row.number for row in found}
    lacking = [_nobody(number) for number in range(1, wanted + 1) if number not in have]
    return sorted([*found, *lacking], key=lambda row: (row.number == 0, row.number, row.generation))


def failovers_of(workload_id: UUID) -> list[FailoverRow]:
    """Return a workload's last failovers, newest first, in one query."""
    rows = Failover.objects.filter(workload_id=workload_id)
    return [_failover(row) for row in rows.select_related("lost_lease__device", "new_lease__device")[:FAILOVERS_SHOWN]]


def fingerprint(replicas: Sequence[ReplicaRow], failovers: Sequence[FailoverRow]) -> str:
    """Return a short text that changes when what is shown does."""
    return hashlib.sha256(repr((replicas, failovers)).encode()).hexdigest()[:12]


def seconds_in_words(seconds: float | None) -> str:
    """Return a short time with the precision it is known to: "0.8 s", "12 s", "2 min 5 s"; "–" for none."""
    if seconds is None:
        return "–"
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def _replica(lease: Lease, *, serving: bool) -> ReplicaRow:
    state = LeaseState(lease.state)
    return ReplicaRow(
        number=0 if lease.slot == STANDBY_SLOT else lease.slot + 1,
        device=lease.device.name,
        region=lease.device.get_region_display(),
        generation=lease.generation,
        state=state.value,
        state_label="not heard" if state == LeaseState.LOST else str(state.label),
        since=lease.state_changed_at,
        serves=serving and state != LeaseState.LOST and _is_there(lease.device),
    )


def _is_there(device: Device) -> bool:
    return device.state not in (DeviceState.OFFLINE, DeviceState.REVOKED)


def _nobody(number: int) -> ReplicaRow:
    return ReplicaRow(number, "", "", 0, "waiting", "waiting for a device", None, False)


def _failover(row: Failover) -> FailoverRow:
    device = row.lost_lease.device
    return FailoverRow(
        number=row.slot + 1,
        noticed_at=row.noticed_at,
        lost=device.name,
        cause=_CAUSES.get(row.reason, _CAUSES[Reason.DEVICE_ERROR.value]),
        lost_generation=row.lost_generation,
        new_device=row.new_lease.device.name if row.new_lease else "",
        new_generation=row.new_generation,
        outcome=row.outcome,
        outcome_label=row.get_outcome_display(),
        served_meanwhile=row.served_meanwhile,
        silent_seconds=_between(row.heard_at, row.noticed_at),
        election_seconds=_between(row.noticed_at, row.elected_at),
        recovery_seconds=row.recovery_seconds,
    )


def _between(earlier: datetime | None, later: datetime | None) -> float | None:
    return max(0.0, (later - earlier).total_seconds()) if earlier and later else None
