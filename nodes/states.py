"""The states of a device, a lease, a spot check, a snapshot and a rollout, the moves allowed between them, and the one function that makes a move.

A move is a compare-and-set: the row changes only if it is still in the state (and generation) the caller saw, so two
processes that both noticed something never both act on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils import timezone

from interchain_site.core.states import compare_and_set
from nodes.agent.protocol import Action
from nodes.errors import IllegalMove, MovedMeanwhile

if TYPE_CHECKING:
    from nodes.models import Device, Lease, Rollout, Snapshot, SpotCheck


class DeviceState(models.TextChoices):
    PENDING = "pending", "waiting for the device"
    ONLINE = "online", "online"
    OFFLINE = "offline", "offline"
    PAUSED = "paused", "paused"
    DRAINING = "draining", "draining"
    REVOKED = "revoked", "revoked"


class LeaseState(models.TextChoices):
    OFFERED = "offered", "offered"
    PREPARING = "preparing", "preparing"
    RUNNING = "running", "running"
    UNHEALTHY = "unhealthy", "unhealthy"
    READY = "ready", "ready to start"
    DRAINING = "draining", "draining"
    STOPPED = "stopped", "stopped"
    WIPED = "wiped", "wiped"
    LOST = "lost", "lost"


class SpotCheckState(models.TextChoices):
    ISSUED = "issued", "issued"
    ANSWERED = "answered", "answered"
    PASSED = "passed", "passed"
    FAILED = "failed", "failed"
    MISSED = "missed", "not answered"
    DROPPED = "dropped", "called off"


class RolloutState(models.TextChoices):
    ROLLING = "rolling", "under way"
    DONE = "done", "done"
    ROLLED_BACK = "rolled_back", "rolled back"
    DROPPED = "dropped", "dropped"


class SnapshotState(models.TextChoices):
    WANTED = "wanted", "under way"
    TAKEN = "taken", "taken"
    FAILED = "failed", "failed"
    REMOVED = "removed", "removed"


D, L, C, N, R = DeviceState, LeaseState, SpotCheckState, SnapshotState, RolloutState

DEVICE_MOVES: dict[DeviceState, frozenset[DeviceState]] = {
    D.PENDING: frozenset({D.ONLINE, D.REVOKED}),
    D.ONLINE: frozenset({D.OFFLINE, D.PAUSED, D.DRAINING, D.REVOKED}),
    D.OFFLINE: frozenset({D.ONLINE, D.PAUSED, D.DRAINING, D.REVOKED}),
    D.PAUSED: frozenset({D.ONLINE, D.OFFLINE, D.DRAINING, D.REVOKED}),
    D.DRAINING: frozenset({D.ONLINE, D.OFFLINE, D.PAUSED, D.REVOKED}),
    D.REVOKED: frozenset(),
}

LEASE_MOVES: dict[LeaseState, frozenset[LeaseState]] = {
    L.OFFERED: frozenset({L.PREPARING, L.RUNNING, L.UNHEALTHY, L.READY, L.DRAINING, L.STOPPED, L.LOST}),
    L.PREPARING: frozenset({L.RUNNING, L.UNHEALTHY, L.READY, L.DRAINING, L.STOPPED, L.LOST}),
    L.RUNNING: frozenset({L.PREPARING, L.UNHEALTHY, L.DRAINING, L.STOPPED, L.LOST}),
    L.UNHEALTHY: frozenset({L.PREPARING, L.RUNNING, L.DRAINING, L.STOPPED, L.LOST}),
    # A warm standby: promoted, it starts what it has ready.
    L.READY: frozenset({L.OFFERED, L.PREPARING, L.RUNNING, L.UNHEALTHY, L.DRAINING, L.STOPPED, L.LOST}),
    L.DRAINING: frozenset({L.STOPPED}),
    L.STOPPED: frozenset({L.WIPED}),
    # A device that comes back before its place was given away goes on with what it was doing.
    L.LOST: frozenset({L.PREPARING, L.RUNNING, L.UNHEALTHY, L.READY, L.DRAINING, L.STOPPED}),
    L.WIPED: frozenset(),
}

SPOT_CHECK_MOVES: dict[SpotCheckState, frozenset[SpotCheckState]] = {
    # Called off: the device went away before it could have answered.
    C.ISSUED: frozenset({C.ANSWERED, C.MISSED, C.DROPPED}),
    C.ANSWERED: frozenset({C.PASSED, C.FAILED}),
    C.PASSED: frozenset(),
    C.FAILED: frozenset(),
    C.MISSED: frozenset(),
    C.DROPPED: frozenset(),
}

SNAPSHOT_MOVES: dict[SnapshotState, frozenset[SnapshotState]] = {
    N.WANTED: frozenset({N.TAKEN, N.FAILED}),
    N.TAKEN: frozenset({N.REMOVED}),
    N.FAILED: frozenset(),
    N.REMOVED: frozenset(),
}

ROLLOUT_MOVES: dict[RolloutState, frozenset[RolloutState]] = {
    # Dropped: another change took its place, or the workload was stopped.
    R.ROLLING: frozenset({R.DONE, R.ROLLED_BACK, R.DROPPED}),
    R.DONE: frozenset(),
    R.ROLLED_BACK: frozenset(),
    R.DROPPED: frozenset(),
}

ALIVE = frozenset({L.OFFERED, L.PREPARING, L.RUNNING, L.UNHEALTHY, L.READY})
HOLDS_MEMORY = ALIVE | {L.DRAINING, L.LOST}
"""In these states a lease occupies processor and memory of its device."""
WANTED = (Action.RUN.value, Action.STANDBY.value)
"""A lease with one of these actions is one the portal wants to go on."""


def transition(lease: Lease, to: LeaseState, **changes: Any) -> None:
    """Move a lease by compare-and-set on (state, generation), with other columns; refreshes the object given.

    Raises:
        IllegalMove: the table does not allow it.
        MovedMeanwhile: somebody else moved it first.
    """
    _check(lease.state, to, LEASE_MOVES[LeaseState(lease.state)], f"lease {lease.pk}")
    changes |= {"state": to, "state_changed_at": timezone.now()}
    _move(lease, {"state": lease.state, "generation": lease.generation}, changes)


def transition_device(device: Device, to: DeviceState, **changes: Any) -> None:
    """Move a device by compare-and-set on its state; raises as `transition` does."""
    _check(device.state, to, DEVICE_MOVES[DeviceState(device.state)], f"device {device.pk}")
    _move(device, {"state": device.state}, changes | {"state": to})


def transition_spot_check(check: SpotCheck, to: SpotCheckState, **changes: Any) -> None:
    """Move a spot check by compare-and-set on its state; raises as `transition` does."""
    _check(check.state, to, SPOT_CHECK_MOVES[SpotCheckState(check.state)], f"spot check {check.pk}")
    _move(check, {"state": check.state}, changes | {"state": to})


def transition_snapshot(snapshot: Snapshot, to: SnapshotState, **changes: Any) -> None:
    """Move a snapshot by compare-and-set on its state; raises as `transition` does."""
    _check(snapshot.state, to, SNAPSHOT_MOVES[SnapshotState(snapshot.state)], f"snapshot {snapshot.pk}")
    _move(snapshot, {"state": snapshot.state}, changes | {"state": to})


def transition_rollout(rollout: Rollout, to: RolloutState, **changes: Any) -> None:
    """Move a rollout by compare-and-set on its state; raises as `transition` does."""
    _check(rollout.state, to, ROLLOUT_MOVES[RolloutState(rollout.state)], f"rollout {rollout.pk}")
    _move(rollout, {"state": rollout.state}, changes | {"state": to})


def _check(state: str, to: str, allowed: frozenset[Any], subject: str) -> None:
    if to not in allowed:
        raise IllegalMove(f"A {subject} that is {state} cannot become {to}.")


def _move(row: Device | Lease | Rollout | Snapshot | SpotCheck, seen: dict[str, Any], changes: dict[str, Any]) -> None:
    if not compare_and_set(row, seen=seen, changes=changes):
        raise MovedMeanwhile
