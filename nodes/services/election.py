"""Who takes a slot that has nobody: the next device of the succession, elected once.

Whoever notices first (a missed ping, a gateway, a client, a device's own word) comes here, and so does a sweep every few seconds, for what
anybody lost. The workload's row is the lock, its counter of generations moves by compare-and-set: the second to come finds it done.
What is still to do is a column (`due_at` of the lease or of the workload), so neither a restart nor an emptied Redis forgets it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db import transaction
from django.utils import timezone

from interchain_site.core import audit
from interchain_site.core.errors import DomainError
from nodes.agent.protocol import Action
from nodes.models import Lease, ReplicaSet, Rollout
from nodes.services import (
    data_home,
    failovers,
    failures,
    handovers,
    openings,
    placement,
    replica_sets,
    rollout_ends,
    rollouts,
)
from nodes.services.replica_sets import STANDBY_SLOT
from nodes.services.vacancies import Filled, Vacancy
from nodes.states import ALIVE, DeviceState, LeaseState

FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=2), timedelta(seconds=30)
RETURN_TIME = timedelta(seconds=10)
"""A device that is back has so long to say that it goes on, before its slots are given away."""
MOST_AT_ONCE = 2000
BATCH = 250
"""So many workloads are looked at in one transaction."""

log = structlog.get_logger()


def look(workload_id: UUID) -> int:
    """Give every slot of a workload that has nobody to the best device there is; returns how many were given. Idempotent."""
    return look_many([workload_id])


def look_many(workload_ids: Collection[UUID], *, passing_over: bool = False) -> int:
    """Give every slot that has nobody, of all these workloads, to the best device there is; returns how many were given. Idempotent.

    1. New copies that are ready take over; a release whose copy failed is rolled back. 2. A warm standby takes the first vacant slot.
    3. The others are placed, of all workloads at once. 4. A release goes on to its next slots. 5. What finds no device, or has to wait, is noted
    and looked at again.

    Args:
        passing_over: those that another process has locked, so looks at, are left to it.
    """
    with transaction.atomic():
        sets = replica_sets.lock_many(workload_ids, passing_over=passing_over)
        wanted = {pk: one for pk, one in sets.items() if one.wanted}
        leased = [pk for pk, one in wanted.items() if one.generation]  # the others never had a lease
        now, newest = timezone.now(), replica_sets.newest_leases_of(leased) if leased else {}
        rollouts_of = rollout_ends.under_way_of(leased) if leased else {}
        looks = [_look_at(one, newest.get(pk, {}), rollouts_of.get(pk), now) for pk, one in wanted.items()]
        filled = placement.fill_many([found.vacancy for found in looks])
        failovers.elected(lease for one in filled for lease in one.opened if lease.workload_id in newest)
        replica_sets.note_due_many([_due(found, one, now) for found, one in zip(looks, filled, strict=True)])
        # Of those passed over nothing is known; those locked and those not wanted are dealt with.
        seen = [*leased, *(pk for pk in (sets if passing_over else workload_ids) if pk not in wanted)]
        if seen:
            Lease.objects.filter(workload_id__in=seen, due_at__isnull=False).update(due_at=None)
        return sum(found.promoted for found in looks) + sum(len(one.opened) for one in filled)


def sweep(*, limit: int = MOST_AT_ONCE) -> int:
    """Look at every workload that is due, oldest first, batch by batch; returns how many slots were given. Its cost is that of what is due."""
    now = timezone.now()
    due: dict[UUID, datetime] = {}
    rows = [
        *Lease.objects.filter(due_at__lte=now).order_by("due_at").values_list("workload_id", "due_at")[:limit],
        *ReplicaSet.objects.filter(due_at__lte=now).order_by("due_at").values_list("workload_id", "due_at")[:limit],
    ]
    for workload_id, at in rows:
        if at is not None:
            due[workload_id] = min(at, due.get(workload_id, at))
    oldest_first = sorted(due, key=lambda one: due[one])[:limit]
    return guarded_look_many(oldest_first, passing_over=True)


def guarded_look_many(workload_ids: Sequence[UUID], *, passing_over: bool = False) -> int:
    """Look at workloads batch by batch; where something is wrong with one, at each of its batch by itself. What goes wrong is left to the next sweep."""
    given = 0
    for start in range(0, len(workload_ids), BATCH):
        batch = workload_ids[start : start + BATCH]
        try:
            given += look_many(batch, passing_over=passing_over)
        except Exception as error:
            log.warning("elections_one_by_one", workloads=len(batch), error=repr(error))
            given += sum(_guarded_look(workload_id) for workload_id in batch)
    return given


def _guarded_look(workload_id: UUID) -> int:
    try:
        return look(workload_id)
    except DomainError as error:
        log.info("election_later", workload=str(workload_id), why=error.message)
    except Exception:
        log.exception("election_failed", workload=str(workload_id))
    return 0


@dataclass
class _Look:
    """What a look at one workload found, before its slots are filled."""

    wanted: ReplicaSet
    newest: dict[int, Lease]
    rollout: Rollout | None
    vacancy: Vacancy
    promoted: int
    copies_data: bool
    hands_over_at: datetime | None


def _look_at(wanted: ReplicaSet, newest: dict[int, Lease], rollout: Rollout | None, now: datetime) -> _Look:
    """Steps 1 and 2, and which slots are left."""
    hands_over_at, rollout = _change_hands(wanted, rollout, newest, now)
    vacant = [slot for slot in range(wanted.replicas) if _is_vacant(newest.get(slot), now)]
    copying = [slot for slot in vacant if rollouts.waits_for_copy(newest.get(slot), now=now)]
    vacant = [slot for slot in vacant if slot not in copying]
    promoted = _promote(wanted, newest, vacant, now) if vacant else 0
    left = [slot for slot in vacant if _is_vacant(newest.get(slot), now)] if promoted else vacant
    slots = [slot for slot in left if not _is_its_own_fault(wanted, newest.get(slot), newest)]
    if wanted.standby and _is_vacant(newest.get(STANDBY_SLOT), now):
        slots.append(STANDBY_SLOT)
    vacancy = Vacancy.of(wanted, newest, slots, forgiving=False)
    return _Look(wanted, newest, rollout, vacancy, promoted, bool(copying), hands_over_at)


def _due(found: _Look, filled: Filled, now: datetime) -> tuple[ReplicaSet, datetime | None, int]:
    """Steps 4 and 5: take the release further; return when the workload is to be looked at again, and how often nothing was found."""
    wanted = found.wanted
    next_step = rollouts.advance(wanted, found.rollout, found.newest, now=now)
    later = filled.lacking > 0 or any(last.state == LeaseState.LOST for last in found.newest.values())
    tries = wanted.tries + 1 if later and not filled.opened else 0
    pause = min(FIRST_PAUSE * 2 ** min(tries, 10), LONGEST_PAUSE)
    moments = [
        now + pause if later else None,
        now + FIRST_PAUSE if found.copies_data else None,
        data_home.waits_until(found.newest.values(), now=now),
        found.hands_over_at,
        next_step,
    ]
    return wanted, min((moment for moment in moments if moment is not None), default=None), min(tries, 100)


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
        openings.supersede(last, now=now)
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
    failovers.elected([standby], promoted=True)
    audit.record("standby_promoted", subject=f"lease:{standby.pk}", slot=slot, generation=standby.generation)
    openings.announce([standby], by={})
    return 1
