"""A new release of a workload, copy by copy, and back to the one before when it fails.

Without data, in each slot: 1. a copy of the new version beside the old one; 2. once it is healthy, clients go to it; 3. the old one ends
(nodes/services/handovers.py); 4. the next slot. So there are never fewer copies that serve than before.
With data, which has one writer: 1. the old copy stops; 2. its volume is copied; 3. the new one starts on it.

It is rolled back when a new copy fails by its own fault (it exits, does not listen, is not healthy in its time; nodes/agent/reconcile.py tries
up to five times), or when nothing got further for ROLLOUT_PROGRESS_SECONDS. Old copies that still serve were never touched; where the new one had
taken over, the old version takes over from it in the same way. Data that the new copy saw, though it never served, is put back.
All of it happens under the workload's lock, in steps that the election takes (nodes/services/election.py), so that a restart loses none.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from interchain_site.core import audit
from interchain_site.core.models import User
from nodes.agent.protocol import Workload
from nodes.errors import Conflict, NotFound
from nodes.models import Lease, ReplicaSet, Rollout, Snapshot, SnapshotRepository
from nodes.services import failures, handovers, leases, placement, replica_sets, rollout_ends, snapshots
from nodes.services.replica_sets import STANDBY_SLOT
from nodes.services.vacancies import Filled
from nodes.services.workload_rules import check_workload
from nodes.signals import slot_vacant
from nodes.states import ALIVE, LeaseState, RolloutState, SnapshotState

COPY_SECONDS = 900
"""A release waits so long for the copy of its data, and then goes on without one."""
NO_PROGRESS = "It did not get further in time."


def begin(*, workload: Workload, by: User | None) -> Rollout | None:
    """Let a workload that runs be this from now on, without a gap where it keeps no data.

    Returns:
        None where no copy served before, so that there is nothing to keep and nothing to go back to: it is replaced at once.

    Raises:
        Invalid: it is not a workload. NotFound: it was never leased. Conflict: it is not wanted now.
        NoDevice: none has room for a new copy beside the old one; nothing changes.
    """
    check_workload(workload)
    with transaction.atomic():
        known = replica_sets.lock(UUID(workload.id))
        if known is None:
            raise NotFound("There is no such workload.")
        if not known.wanted:
            raise Conflict("This does not run now. Start it first.")
        newest = replica_sets.newest_leases(known.pk)
        before, now = rollout_ends.under_way(known.pk), timezone.now()
        go_back_to = {
            "from_version": before.from_version if before else known.version,
            "from_public": before.from_public if before else known.workload_public,
            "from_environment_encrypted": (
                before.from_environment_encrypted if before else known.environment_encrypted
            ),
        }
        keeps_data = known.has_volume or bool(workload.volume_path)
        wanted = replica_sets.want(known, workload, replicas=known.replicas, standby=known.standby, region=known.region)
        if before is not None:
            rollout_ends.end(before, RolloutState.DROPPED, now=now)
        rollout = Rollout(
            workload_id=wanted.pk,
            to_version=wanted.version,
            began_at=now,
            progress_at=now,
            **go_back_to,
        )
        serving = [slot for slot, last in newest.items() if _serves(last)]
        in_place = not serving or (keeps_data and newest[serving[0]].state != LeaseState.RUNNING)
        if in_place and before is None:
            _replace_all(wanted, newest, by=by)
            return None
        rollout.save(force_insert=True)
        audit.record("rollout_began", subject=f"workload:{wanted.pk}", by=by, version=wanted.version)
        if in_place:  # nothing serves, but the release before this one had something to go back to
            _replace_all(wanted, newest, by=by)
        elif keeps_data:
            _stop_and_copy(newest[serving[0]], by=by)
        else:
            placement.require(_renew(wanted, newest, by=by, now=now), 1)
        replica_sets.note_due(wanted, now + timedelta(seconds=settings.HANDOVER_SECONDS), tries=0)
        return rollout


def cancel(*, workload_id: UUID, by: User | None) -> Rollout:
    """Roll back what is under way because somebody asks.

    Raises:
        Conflict: nothing is under way.
    """
    with transaction.atomic():
        wanted = replica_sets.lock(workload_id)
        rollout = rollout_ends.under_way(workload_id)
        if wanted is None or rollout is None:
            raise Conflict("No release is under way. Reload the page.")
        newest = replica_sets.newest_leases(workload_id)
        roll_back(wanted, rollout, newest, reason="asked", message="Its publisher asked for it.", by=by)
        slot_vacant.send(sender=Lease, workload_ids=[workload_id])
        return rollout


def advance(wanted: ReplicaSet, rollout: Rollout | None, newest: dict[int, Lease], *, now: datetime) -> datetime | None:
    """Take the next step of a locked workload: the next slots, or the end. Returns when to look again; None: nothing is left to do.

    Also without a rollout: after one was rolled back, copies of its version give way in the same way.
    """
    if not wanted.has_volume:
        _renew(wanted, newest, by=None, now=now)
    if rollout is None:
        return None if not _outdated(wanted, newest) else now + timedelta(seconds=settings.HANDOVER_SECONDS)
    settles = _settles(wanted, newest)
    if settles is None:
        return now + timedelta(seconds=settings.HANDOVER_SECONDS)
    if settles > now:
        return settles
    standby = newest.get(STANDBY_SLOT)
    if wanted.standby and standby is not None and standby.version != wanted.version:
        placement.fill(wanted, newest, [STANDBY_SLOT], by=None)
    rollout_ends.end(rollout, RolloutState.DONE, now=now)
    return None


def note_progress(rollout: Rollout, *, now: datetime) -> None:
    Rollout.objects.filter(pk=rollout.pk).update(progress_at=now)
    rollout.progress_at = now


def is_stuck(wanted: ReplicaSet, rollout: Rollout, *, now: datetime) -> bool:
    return now >= rollout.progress_at + _patience(wanted)


def is_everywhere(wanted: ReplicaSet, newest: dict[int, Lease]) -> bool:
    return _settles(wanted, newest) is not None


def failed_copy(rollout: Rollout, newest: dict[int, Lease]) -> Lease | None:
    """Return a copy of the new version that failed by its own fault."""
    for last in newest.values():
        if last.version == rollout.to_version and failures.is_own(last):
            return last
    return None


def waits_for_copy(last: Lease | None, *, now: datetime) -> bool:
    """Whether a slot stays empty for now because the data of its last lease is being copied before a release."""
    if last is None or not last.has_volume:
        return False
    since = now - timedelta(seconds=COPY_SECONDS)
    copying = Snapshot.objects.filter(lease=last, cause=Snapshot.Cause.RELEASE, state=SnapshotState.WANTED)
    return copying.filter(wanted_at__gt=since).exists()


def roll_back(
    wanted: ReplicaSet,
    rollout: Rollout,
    newest: dict[int, Lease],
    *,
    reason: str,
    message: str,
    log_tail: str = "",
    by: User | None = None,
) -> None:
    """Want the version before again. What was to be replaced is the newest again; the rest follows step by step."""
    now, before = timezone.now(), rollout.before
    going = handovers.outgoing(newest)
    replica_sets.want(
        wanted,
        before,
        replicas=wanted.replicas,
        standby=wanted.standby,
        region=wanted.region,
        version=rollout.from_version,
    )
    for slot, old in going.items():
        handovers.reinstate(newest[slot], old, now=now)
        newest[slot] = old
    if before.volume_path or any(last.has_volume for last in newest.values()):
        _go_back_with_data(wanted, rollout, newest, now=now)
    rollout_ends.end(
        rollout, RolloutState.ROLLED_BACK, now=now, reason=reason, message=message, log_tail=log_tail, by=by
    )


def _serves(last: Lease) -> bool:
    return last.slot != STANDBY_SLOT and (handovers.serves(last) or last.is_pending)


def _replace_all(wanted: ReplicaSet, newest: dict[int, Lease], *, by: User | None) -> None:
    placement.require(placement.fill(wanted, newest, range(wanted.replicas), by=by), wanted.replicas)
    if STANDBY_SLOT in newest and wanted.standby:
        placement.fill(wanted, newest, [STANDBY_SLOT], by=by)


def _outdated(wanted: ReplicaSet, newest: dict[int, Lease]) -> list[int]:
    """Return the slots, of those that have somebody, whose newest lease is of another version."""
    return [
        slot
        for slot, last in newest.items()
        if slot != STANDBY_SLOT and last.version != wanted.version and last.action == "run" and last.state in ALIVE
    ]


def _renew(wanted: ReplicaSet, newest: dict[int, Lease], *, by: User | None, now: datetime) -> Filled:
    """Begin as many slots as may be under way at once."""
    outdated = _outdated(wanted, newest)
    pending = [slot for slot, last in newest.items() if last.is_pending and last.version == wanted.version]
    slots = outdated[: max(0, settings.ROLLOUT_AT_ONCE - len(pending))]
    if not slots:
        return Filled()
    return placement.fill(wanted, newest, slots, by=by, forgiving=by is not None, beside=True)


def _settles(wanted: ReplicaSet, newest: dict[int, Lease]) -> datetime | None:
    """Return from when on every copy that is there is a healthy one of the wanted version for long enough; None while one is not."""
    latest = None
    for slot, last in newest.items():
        if slot == STANDBY_SLOT or slot >= wanted.replicas:
            continue
        if last.state == LeaseState.LOST and last.version == wanted.version:
            continue
        if last.version != wanted.version or last.state != LeaseState.RUNNING or last.is_pending:
            return None
        at = last.state_changed_at + timedelta(seconds=settings.HANDOVER_SECONDS)
        latest = max(latest or at, at)
    return latest


def _patience(wanted: ReplicaSet) -> timedelta:
    return timedelta(seconds=settings.ROLLOUT_PROGRESS_SECONDS + wanted.workload.health.start_seconds)


def _stop_and_copy(last: Lease, *, by: User | None) -> None:
    """Ask for a copy of the volume, made once nothing writes any more, and stop what does. The election starts the next."""
    if last.has_volume:
        snapshots.want(lease=last, cause=Snapshot.Cause.RELEASE, by=by)
    leases.close_locked(last, reason="")
    leases.note_due(last)


def _go_back_with_data(wanted: ReplicaSet, rollout: Rollout, newest: dict[int, Lease], *, now: datetime) -> None:
    """Start the version before at once, on its data: as it was copied, unless the new version served clients."""
    last = newest[0]
    if last.version != rollout.to_version:
        return  # the new one was not begun; the election starts the old one again
    served = Lease.objects.filter(workload_id=wanted.pk, version=rollout.to_version, running_at__isnull=False).exists()
    copy = Snapshot.objects.filter(
        repository_id=wanted.pk,
        cause=Snapshot.Cause.RELEASE,
        state=SnapshotState.TAKEN,
        wanted_at__gte=rollout.began_at,
    ).first()
    if copy is not None and not served:
        SnapshotRepository.objects.filter(pk=wanted.pk).update(restore_wanted=copy)
    placement.fill(wanted, newest, [0], by=None, forgiving=True)
