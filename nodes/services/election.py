"""Who takes a slot that has nobody: the next device of the succession, elected once.

Whoever notices first (a missed ping, a gateway, a client, a device's own word) comes here, and so does a sweep every few seconds, for what
anybody lost. The workload's row is the lock, its counter of generations moves by compare-and-set: the second to come finds it done.
What is still to do is a column (`due_at` of the lease or of the workload), so neither a restart nor an emptied Redis forgets it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db import transaction
from django.utils import timezone

from interchain_site.core import audit
from interchain_site.core.errors import DomainError
from nodes.agent.protocol import Action
from nodes.models import Lease, ReplicaSet, Rollout
from nodes.services import failovers, failures, handovers, placement, replica_sets, reservations, rollouts
from nodes.services.replica_sets import STANDBY_SLOT
from nodes.states import ALIVE, DeviceState, LeaseState

FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=2), timedelta(seconds=30)
RETURN_TIME = timedelta(seconds=10)
"""A device that is back has so long to say that it goes on, before its slots are given away."""
MOST_AT_ONCE = 2000

log = structlog.get_logger()


def look(workload_id: UUID) -> int:
    """Give every slot of a workload that has nobody to the best device there is; returns how many were given. Idempotent.

    1. New copies that are ready take over; a release whose copy failed is rolled back. 2. A warm standby takes the first vacant slot.
    3. The others are placed. 4. A release goes on to its next slots. 5. What finds no device, or has to wait, is noted and looked at again.
    """
    with transaction.atomic():
        wanted = replica_sets.lock(workload_id)
        if wanted is None or not wanted.wanted:
            Lease.objects.filter(workload_id=workload_id, due_at__isnull=False).update(due_at=None)
            return 0
        now = timezone.now()
        newest = replica_sets.newest_leases(workload_id)
        rollout = rollouts.under_way(workload_id)
        hands_over_at, rollout = _change_hands(wanted, rollout, newest, now)
        vacant = [slot for slot in range(wanted.replicas) if _is_vacant(newest.get(slot), now)]
        copying = [slot for slot in vacant if rollouts.waits_for_copy(newest.get(slot), now=now)]
        vacant = [slot for slot in vacant if slot not in copying]
        given = _promote(wanted, newest, vacant, now) if vacant else 0
        left = [slot for slot in vacant if _is_vacant(newest.get(slot), now)] if given else vacant
        slots = [slot for slot in left if not _is_its_own_fault(wanted, newest.get(slot), newest)]
        if wanted.standby and _is_vacant(newest.get(STANDBY_SLOT), now):
            slots.append(STANDBY_SLOT)
        filled = placement.fill(wanted, newest, slots, by=None, forgiving=False) if slots else placement.Filled()
        for lease in filled.opened:
            failovers.elected(lease)
        next_step = rollouts.advance(wanted, rollout, newest, now=now)
        later = filled.lacking > 0 or any(last.state == LeaseState.LOST for last in newest.values())
        tries = wanted.tries + 1 if later and not filled.opened else 0
        pause = min(FIRST_PAUSE * 2 ** min(tries, 10), LONGEST_PAUSE)
        moments = [
            now + pause if later else None,
            now + FIRST_PAUSE if copying else None,
            hands_over_at,
            next_step,
        ]
        due_at = min((moment for moment in moments if moment is not None), default=None)
        replica_sets.note_due(wanted, due_at, tries=min(tries, 100))
        Lease.objects.filter(workload_id=workload_id, due_at__isnull=False).update(due_at=None)
        return given + len(filled.opened)


def sweep(*, limit: int = MOST_AT_ONCE) -> int:
    """Look at every workload that is due, oldest first; returns how many slots were given. Its cost is that of what is due."""
    now = timezone.now()
    due: dict[UUID, datetime] = {}
    rows = [
        *Lease.objects.filter(due_at__lte=now).order_by("due_at").values_list("workload_id", "due_at")[:limit],
        *ReplicaSet.objects.filter(due_at__lte=now).order_by("due_at").values_list("workload_id", "due_at")[:limit],
    ]
    for workload_id, at in rows:
        if at is not None:
            due[workload_id] = min(at, due.get(workload_id, at))
    given = 0
    for workload_id in sorted(due, key=lambda one: due[one])[:limit]:
        given += guarded_look(workload_id)
    return given


def guarded_look(workload_id: UUID) -> int:
    """Look at one workload; what goes wrong is logged and left to the next sweep."""
    try:
        return look(workload_id)
    except DomainError as error:
        log.info("election_later", workload=str(workload_id), why=error.message)
    except Exception:
        log.exception("election_failed", workload=str(workload_id))
    return 0


def _change_hands(
    wanted: ReplicaSet, rollout: Rollout | None, newest: dict[int, Lease], now: datetime
) -> tuple[datetime | None, Rollout | None]:
    """Let new copies take over, or be given up; returns when the next one may, and the rollout if it is still under way."""
    going = handovers.outgoing(newest)
    pending = sum(last.is_pending for last in newest.values())
    at = handovers.finish(newest, going, now=now)
    if rollout is None:
        for slot, old in going.items():  # a move to another device, where it failed
            if failures.is_own(newest[slot]):
                handovers.reinstate(newest[slot], old, now=now)
                newest[slot] = old
        return at, None
    if sum(last.is_pending for last in newest.values()) < pending:
        rollouts.note_progress(rollout, now=now)
    failed = rollouts.failed_copy(rollout, newest)
    if failed is not None:
        rollouts.roll_back(
            wanted, rollout, newest, reason=failed.reason, message=failed.message, log_tail=failed.log_tail
        )
        return at, None
    if rollouts.is_stuck(wanted, rollout, now=now) and not rollouts.is_everywhere(wanted, newest):
        rollouts.roll_back(wanted, rollout, newest, reason="no_progress", message=rollouts.NO_PROGRESS)
        return at, None
    return at, rollout


def _is_vacant(last: Lease | None, now: datetime) -> bool:
    if last is None or last.action not in (Action.RUN.value, Action.STANDBY.value):
        return True
    if last.state in ALIVE:
        return False
    return last.state != LeaseState.LOST or not _is_back(last, now)


def _is_back(last: Lease, now: datetime) -> bool:
    """Whether a lost lease's device was heard again a moment ago, and may say any moment that the lease goes on."""
    seen = last.device.last_seen_at
    return last.device.state == DeviceState.ONLINE and seen is not None and now - seen < RETURN_TIME


def _is_its_own_fault(wanted: ReplicaSet, last: Lease | None, newest: dict[int, Lease]) -> bool:
    """Whether the workload itself failed in this slot, so that only another replica that runs is a reason to try again."""
    if last is None or last.version != wanted.version or not failures.is_own(last):
        return False
    return not any(other.state == LeaseState.RUNNING for other in newest.values())


def _promote(wanted: ReplicaSet, newest: dict[int, Lease], vacant: list[int], now: datetime) -> int:
    """Let the warm standby take the first vacant slot: the same lease, with a newer generation; returns how many did."""
    standby = newest.get(STANDBY_SLOT)
    if standby is None or standby.action != Action.STANDBY.value or standby.state != LeaseState.READY:
        return 0
    if standby.device.state != DeviceState.ONLINE:
        return 0
    # Where the copy before goes on, there is time to place a new one.
    slot = next((slot for slot in vacant if slot not in newest or not newest[slot].is_pending), None)
    if slot is None:
        return 0
    last = newest.get(slot)
    if last is not None:
        placement.supersede(last, now=now)
    changes = {
        "slot": slot,
        "action": Action.RUN.value,
        "generation": replica_sets.next_generation(wanted),
        "state": LeaseState.OFFERED,
        "state_changed_at": now,
        "uptime_from": now,  # it did not run before, whatever its device says
        "revision": standby.revision + 1,
    }
    Lease.objects.filter(pk=standby.pk, action=Action.STANDBY.value).update(**changes)
    for name, value in changes.items():
        setattr(standby, name, value)
    newest[slot] = newest.pop(STANDBY_SLOT)
    failovers.elected(standby, promoted=True)
    reservations.refresh(standby.device_id)
    audit.record("standby_promoted", subject=f"lease:{standby.pk}", slot=slot, generation=standby.generation)
    placement.announce(standby, by=None)
    return 1
