"""What to do next: desired × seen × what is remembered → steps. Pure, so that every case is a small test.

Rules, in the order they are applied to each lease:

1. A lease with a step under way waits for it.
2. Of a workload that keeps data only the newest generation may run here; an older one is stopped, whatever is asked of it. Without
   data two may run side by side: during a release the old one goes on until the new one is ready.
3. Not listed any more: stop it, keep its volume.
4. `stop`: no container. `wipe`: nothing at all, then a receipt.
5. `run` or `standby` and given up: no container. `standby`: a container that is created, not started.
6. `run` and no running container: start it, unless its backoff is not over, or an older generation still holds the volume.
7. `run`, running, but not healthy in time or for too long: give up this attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from nodes.agent.protocol import LOG_TAIL_BYTES, Action, Desired, DesiredLease, Observed, Reason, Status

GIVE_UP_AFTER = 5  # failed attempts in a row
FORGIVEN_AFTER_SECONDS = 600  # healthy for so long: earlier failures no longer count
FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 60.0
UNHEALTHY_CHECKS = 6  # failed health checks in a row before the container is restarted


class Verb(str, Enum):
    START = "start"
    READY = "ready"  # everything but the start
    RESTART = "restart"  # stop what hangs, then start; counts as a failed attempt
    STOP = "stop"
    WIPE = "wipe"


@dataclass(frozen=True)
class Seen:
    """What Docker has of one lease: read from labels, never remembered."""

    lease_id: str
    generation: int
    workload_id: str
    container_id: str = ""  # empty: only a network or the like is left
    running: bool = False
    exit_code: int = 0
    out_of_memory: bool = False
    error: str = ""
    image_id: str = ""
    address: str = ""
    host_port: int = 0
    pid: int = 0
    started_at: str = ""  # tells one start of the same container from the next
    bridge: str = ""
    encrypted: bool = False  # it was made on an encrypted volume
    runtime: str = ""  # protocol.Runtime


@dataclass(frozen=True)
class Note:
    """What only the agent's memory knows of one lease; losing it costs one more attempt, nothing else.

    Times are of the monotonic clock, in seconds.
    """

    busy: bool = False
    healthy: bool = False
    alive: bool = False  # its health check passes, though it may not be ready
    was_healthy: bool = False
    running_since: float = 0.0
    healthy_since: float = 0.0
    unhealthy_since: float = 0.0
    attempts: int = 0  # failed in a row
    ready_at: float = 0.0  # not started before
    retry_at: float = 0.0  # after a stop or wipe that did not succeed: nothing is tried before
    failed: bool = False
    wiped: bool = False
    reason: Reason = Reason.NONE
    message: str = ""
    log_tail: str = ""
    restarts: int = 0


@dataclass(frozen=True)
class Step:
    verb: Verb
    lease_id: str
    lease: "DesiredLease | None" = None  # None: not listed any more


def plan(desired: Desired, seen: Mapping[str, Seen], notes: Mapping[str, Note], now: float) -> list[Step]:
    """Return at most one step per lease, those that free something before those that take it."""
    superseded = _superseded(desired)
    listed = {lease.lease_id for lease in desired.leases}
    steps = []
    for lease in desired.leases:
        note = notes.get(lease.lease_id, Note())
        if not _is_free(note, now):
            continue
        step = _step(lease, lease.lease_id in superseded, seen, note, now)
        if step is not None:
            steps.append(step)
    steps += [
        Step(Verb.STOP, lease_id)
        for lease_id in seen
        if lease_id not in listed and _is_free(notes.get(lease_id, Note()), now)
    ]
    return sorted(steps, key=lambda step: step.verb in (Verb.START, Verb.READY, Verb.RESTART))


def _is_free(note: Note, now: float) -> bool:
    return not note.busy and now >= note.retry_at


def _step(lease: DesiredLease, superseded: bool, seen: Mapping[str, Seen], note: Note, now: float) -> "Step | None":
    mine = seen.get(lease.lease_id)
    if lease.action is Action.WIPE:
        return None if note.wiped and mine is None else Step(Verb.WIPE, lease.lease_id, lease)
    if lease.action is Action.STOP or note.failed or superseded:
        return Step(Verb.STOP, lease.lease_id, lease) if mine is not None else None
    if lease.action is Action.STANDBY:
        if mine is not None and mine.container_id:
            return Step(Verb.STOP, lease.lease_id, lease) if mine.running else None
        return Step(Verb.READY, lease.lease_id, lease) if now >= note.ready_at else None
    if mine is None or not mine.running:
        if now < note.ready_at or _volume_is_held(lease, seen):
            return None
        return Step(Verb.START, lease.lease_id, lease)
    return Step(Verb.RESTART, lease.lease_id, lease) if overdue(lease, note, now) else None


def _superseded(desired: Desired) -> "set[str]":
    """Return the leases that must not run because a newer one of their workload is listed and either of both keeps data."""
    newest = newest_generations(desired)
    keeping = {lease.workload.id for lease in desired.leases if lease.workload.volume_path}
    return {
        lease.lease_id
        for lease in desired.leases
        if lease.workload.id in keeping and lease.generation < newest[lease.workload.id]
    }


def newest_generations(desired: Desired) -> dict[str, int]:
    """Return the highest generation listed of each workload that is not to be wiped."""
    newest: dict[str, int] = {}
    for lease in desired.leases:
        floor = 0 if lease.action is Action.WIPE else lease.generation
        newest[lease.workload.id] = max(newest.get(lease.workload.id, 0), floor)
    return newest


def _volume_is_held(lease: DesiredLease, seen: Mapping[str, Seen]) -> bool:
    """Two generations must never write to one volume at once."""
    return bool(lease.workload.volume_path) and any(
        other.running and other.workload_id == lease.workload.id and other.lease_id != lease.lease_id
        for other in seen.values()
    )


def overdue(lease: DesiredLease, note: Note, now: float) -> bool:
    """Whether a running container has had its time to become healthy, or to live again. One not ready has all the time."""
    health = lease.workload.health
    if note.healthy or not note.running_since:
        return False
    if not note.was_healthy:
        return now >= note.running_since + health.start_seconds
    return not note.alive and now >= note.unhealthy_since + UNHEALTHY_CHECKS * health.interval_seconds


def next_due(desired: Desired, seen: Mapping[str, Seen], notes: Mapping[str, Note]) -> float:
    """Return the next moment at which `plan` may answer differently though nothing happened; infinity if none."""
    moments = [float("inf"), *(note.retry_at for note in notes.values() if note.retry_at and not note.busy)]
    for lease in desired.leases:
        note = notes.get(lease.lease_id, Note())
        if lease.action not in (Action.RUN, Action.STANDBY) or note.busy or note.failed:
            continue
        mine = seen.get(lease.lease_id)
        if lease.action is Action.STANDBY and mine is not None and mine.container_id:
            continue
        if mine is None or not mine.running:
            moments.append(note.ready_at)
        elif not note.healthy and note.running_since and not (note.alive and note.was_healthy):
            health = lease.workload.health
            moments.append(
                note.unhealthy_since + UNHEALTHY_CHECKS * health.interval_seconds
                if note.was_healthy
                else note.running_since + health.start_seconds
            )
    return min(moments)


def after_failure(
    note: Note, now: float, *, reason: Reason, message: str, log_tail: str = "", permanent: bool = False
) -> Note:
    """Return the note after an attempt failed: a longer pause, or given up."""
    forgiven = note.healthy_since and now - note.healthy_since >= FORGIVEN_AFTER_SECONDS
    attempts = 1 if forgiven else note.attempts + 1
    pause = min(FIRST_BACKOFF_SECONDS * 2 ** (attempts - 1), LONGEST_BACKOFF_SECONDS)
    return replace(
        note,
        attempts=attempts,
        ready_at=now + pause,
        failed=permanent or attempts >= GIVE_UP_AFTER,
        reason=reason,
        message=message,
        log_tail=log_tail[-LOG_TAIL_BYTES:],
        restarts=note.restarts + (not permanent and attempts < GIVE_UP_AFTER),
        healthy=False,
        alive=False,
        running_since=0.0,
        healthy_since=0.0,
        unhealthy_since=now,
    )


def statuses(desired: Desired, seen: Mapping[str, Seen], notes: Mapping[str, Note]) -> tuple[Status, ...]:
    """Return what to report of each listed lease."""
    superseded = _superseded(desired)
    found = []
    for lease in desired.leases:
        outdated = lease.action is Action.RUN and lease.lease_id in superseded
        told = replace(lease, action=Action.STOP) if outdated else lease  # as `plan` takes it
        found.append(_status(told, seen.get(lease.lease_id), notes.get(lease.lease_id, Note())))
    return tuple(found)


def _status(lease: DesiredLease, mine: "Seen | None", note: Note) -> Status:
    observed = _observed(lease, mine, note)
    told = observed not in (Observed.RUNNING, Observed.READY, Observed.STOPPED, Observed.WIPED)
    running = mine is not None and mine.running
    return Status(
        lease_id=lease.lease_id,
        generation=lease.generation,
        observed=observed,
        host_port=mine.host_port if mine is not None and running else 0,
        reason=note.reason if told else Reason.NONE,
        message=note.message if told else "",
        log_tail=note.log_tail if told else "",
        image_id=mine.image_id if mine is not None else "",
        restarts=note.restarts,
        encrypted=mine is not None and mine.encrypted,
        runtime=mine.runtime if mine is not None else "",
    )


def _observed(lease: DesiredLease, mine: "Seen | None", note: Note) -> Observed:
    if lease.action is Action.WIPE and note.wiped and mine is None:
        return Observed.WIPED
    if lease.action is Action.STANDBY and not note.failed:
        ready = mine is not None and mine.container_id and not mine.running and not note.busy
        return Observed.READY if ready else Observed.PREPARING
    if mine is None and (note.failed or lease.action not in (Action.RUN, Action.STANDBY)):
        return Observed.FAILED if note.failed and lease.action in (Action.RUN, Action.STANDBY) else Observed.STOPPED
    if mine is not None and mine.running and note.healthy:
        return Observed.RUNNING
    return Observed.UNHEALTHY if note.was_healthy else Observed.PREPARING


def keep_only(notes: Mapping[str, Note], lease_ids: Iterable[str]) -> dict[str, Note]:
    """Forget what is neither listed nor seen nor under way."""
    wanted = set(lease_ids)
    return {lease_id: note for lease_id, note in notes.items() if lease_id in wanted or note.busy}
