"""Copies of volumes: when one is taken, what a device says of it, which one a workload begins with elsewhere, and their end.

The life of a snapshot: 1. wanted, of the lease that holds the volume (on schedule, asked for, or before a move). 2. The device
reads that with its desired state, opens the repository with a grant, and lets restic copy the volume. 3. It reports, signed.
4. A worker removes what is past its time. 5. With the workload's data all of it goes, with a receipt of the portal.
A snapshot is of a running volume, as after a power cut: programs that survive one survive being restored.
"""

from __future__ import annotations

import json
import secrets as random
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists, Max, OuterRef, Q
from django.utils import timezone

from interchain_site.core import audit, secrets
from interchain_site.core.alerts import raise_alert
from interchain_site.core.models import User
from nodes.errors import Conflict, Invalid, MovedMeanwhile, NotFound, StorageAway
from nodes.models import Lease, Snapshot, SnapshotRepository
from nodes.services import directory_keys, snapshot_storage
from nodes.services.wake import wake
from nodes.signals import snapshots_wiped
from nodes.snapshots import restic
from nodes.snapshots.restic import ResticFailed
from nodes.snapshots.store import Repository
from nodes.states import LeaseState, SnapshotState, transition_snapshot

GIVE_UP_AFTER = timedelta(hours=6)
TIDY_EVERY = timedelta(days=1)
LEAST_LIMIT_BYTES = 10**9
FAILURES_TILL_ALERT = 3
LEAST_SECONDS, MOST_SECONDS = 300, 30 * 86_400
FIRST_SECONDS = 600
"""Without a snapshot no other device can go on with an app's data, so the first is taken sooner than the next ones."""
LIMIT_TIMES = 3
"""A repository holds at most three times the volume's own limit: a month of changes, for what is not a backup of noise."""
MANY_AT_ONCE = 100
log = structlog.get_logger()
_S = SnapshotState
_COPIED_WHILE = (LeaseState.RUNNING, LeaseState.UNHEALTHY, LeaseState.STOPPED)


def repository_of(lease: Lease) -> SnapshotRepository:
    """Return the repository of a lease's workload, made with a key of its own if there is none."""
    now = timezone.now()
    repository, _ = SnapshotRepository.objects.get_or_create(
        workload_id=lease.workload_id,
        defaults={
            "key_encrypted": secrets.encrypt(random.token_urlsafe(32)),
            "every_seconds": settings.SNAPSHOT_SECONDS,
            "limit_bytes": max(LEAST_LIMIT_BYTES, LIMIT_TIMES * lease.disk_bytes),
            "tidied_at": now,
            "created_at": now,
        },
    )
    return repository


def want(*, lease: Lease, cause: Snapshot.Cause, by: User | None = None) -> Snapshot:
    """Ask the device for a snapshot of the lease's volume; one that is under way already is returned.

    Raises:
        Conflict: it has no volume, or nobody can read it now.
    """
    if not lease.has_volume:
        raise Conflict("This app keeps no data, so there is nothing to copy. Give its release a volume first.")
    if lease.state not in (*_COPIED_WHILE, LeaseState.DRAINING):
        raise Conflict("Its data cannot be copied now. Try again once it runs.")
    repository = repository_of(lease)
    if cause in (Snapshot.Cause.MOVE, Snapshot.Cause.RELEASE):
        # One that was begun while it still ran would miss its last words.
        Snapshot.objects.filter(repository=repository, state=_S.WANTED).update(
            state=_S.FAILED, ended_at=timezone.now(), message=f"Another copy took its place, {cause.label}."
        )
    try:
        with transaction.atomic():
            snapshot = Snapshot.objects.create(
                repository=repository, lease=lease, cause=cause, wanted_at=timezone.now()
            )
            audit.record("snapshot_wanted", subject=f"lease:{lease.pk}", by=by, cause=str(cause))
            wake(lease.device_id)
    except IntegrityError:
        return Snapshot.objects.get(repository=repository, state=_S.WANTED)
    return snapshot


def want_restored(*, workload_id: UUID, snapshot_id: UUID, by: User) -> Snapshot:
    """Let the workload's next lease begin with this snapshot, in place of the data it has.

    Raises:
        NotFound: it has no such snapshot (any more).
    """
    with transaction.atomic():
        taken = Snapshot.objects.filter(pk=snapshot_id, repository_id=workload_id, state=_S.TAKEN).first()
        if taken is None:
            raise NotFound("There is no such snapshot any more.")
        SnapshotRepository.objects.filter(pk=workload_id).update(restore_wanted=taken)
        audit.record("snapshot_restore_wanted", subject=f"workload:{workload_id}", by=by, snapshot=str(snapshot_id))
    return taken


def set_interval(*, workload_id: UUID, every_seconds: int, by: User) -> None:
    """Take a snapshot so often from now on; 0: only when asked for.

    Raises:
        Invalid: more often than every five minutes, or less than monthly. NotFound: it keeps no data yet.
    """
    if every_seconds and not LEAST_SECONDS <= every_seconds <= MOST_SECONDS:
        raise Invalid(fields={"every_seconds": "From five minutes to thirty days, or never."})
    with transaction.atomic():
        if not SnapshotRepository.objects.filter(pk=workload_id).update(every_seconds=every_seconds):
            raise NotFound("This app keeps no data yet, so there is nothing to copy.")
        audit.record("snapshot_interval_set", subject=f"workload:{workload_id}", by=by, seconds=every_seconds)


def sweep() -> None:
    """0. Try the storage. 1. Want what is due. 2. Give up on what no device took. 3. Remove what is past its time. 4. Remove all of what
    is wiped. One bad row stops no other. While the storage is away nothing is asked of it, and all of it is made up for later."""
    now = timezone.now()
    here = _storage_is_here()
    for lease in _due(now) if here else []:
        try:
            want(lease=lease, cause=Snapshot.Cause.SCHEDULE)
        except Conflict as error:
            log.info("snapshot_waits", lease=str(lease.pk), why=error.message)
    for snapshot in Snapshot.objects.filter(state=_S.WANTED, wanted_at__lt=now - GIVE_UP_AFTER)[:MANY_AT_ONCE]:
        try:
            with transaction.atomic():
                fail(snapshot, "The device did not take it in time.", now)
        except MovedMeanwhile:
            continue
    if not here:
        return
    for repository in SnapshotRepository.objects.filter(tidied_at__lt=now - TIDY_EVERY)[:MANY_AT_ONCE]:
        try:
            tidy(repository)
        except (ResticFailed, StorageAway) as error:
            log.warning("snapshots_not_tidied", workload=str(repository.pk), error=error.message)
    unwiped = Lease.objects.filter(workload_id=OuterRef("workload_id")).exclude(state=LeaseState.WIPED)
    for workload_id in SnapshotRepository.objects.exclude(Exists(unwiped)).values_list("pk", flat=True)[:MANY_AT_ONCE]:
        try:
            remove_all(workload_id)
        except StorageAway as error:
            log.warning("snapshots_not_removed", workload=str(workload_id), error=error.why)


def _storage_is_here() -> bool:
    if not SnapshotRepository.objects.exists():
        return True
    try:
        snapshot_storage.check()
    except StorageAway:
        return False
    return True


def tidy(repository: SnapshotRepository) -> None:
    """Remove snapshots past their time, and count what is left.

    Raises:
        ResticFailed: try again later.
    """
    mine = SnapshotRepository.objects.filter(pk=repository.pk, tidied_at=repository.tidied_at)
    now = timezone.now()
    if not mine.update(tidied_at=now):
        return  # another worker does
    files = Repository(repository.pk)
    if not files.exists("config", ""):
        return
    kept = restic.tidy(repository)
    for snapshot in Snapshot.objects.filter(repository=repository, state=_S.TAKEN):
        if snapshot.restic_id not in kept:
            transition_snapshot(snapshot, _S.REMOVED, ended_at=now)
    SnapshotRepository.objects.filter(pk=repository.pk).update(bytes=files.bytes())


def remove_all(workload_id: UUID) -> int:
    """Remove a workload's snapshots for good, with the key to them, and say so signed; returns how many files there were.

    Idempotent: what a crash left is removed by the next call, and the receipt comes last.
    """
    removed = Repository(workload_id).remove()
    now = timezone.now()
    with transaction.atomic():
        count, _ = SnapshotRepository.objects.filter(pk=workload_id).delete()
        if count:
            statement = {"kind": "snapshots-wiped", "workload_id": str(workload_id), "wiped_at": now.isoformat()}
            receipt = directory_keys.signer(directory_keys.in_force()).sign(
                json.dumps(statement, sort_keys=True).encode()
            )
            audit.record("snapshots_wiped", subject=f"workload:{workload_id}", files=removed)
            snapshots_wiped.send(sender=SnapshotRepository, workload_id=workload_id, receipt=receipt)
    return removed


def fail(snapshot: Snapshot, words: str, now: datetime) -> None:
    """Note why a snapshot was not taken; after some in a row tell staff."""
    transition_snapshot(snapshot, _S.FAILED, message=words, ended_at=now)
    audit.record("snapshot_failed", subject=f"lease:{snapshot.lease_id}", why=words)
    recent = Snapshot.objects.filter(repository=snapshot.repository_id).filter(~Q(state=_S.WANTED))
    states = list(recent.values_list("state", flat=True)[:FAILURES_TILL_ALERT])
    if len(states) == FAILURES_TILL_ALERT and set(states) == {_S.FAILED}:
        raise_alert(
            code="snapshots_fail",
            subject=f"workload:{snapshot.repository_id}",
            message=f"The last {FAILURES_TILL_ALERT} snapshots of a workload failed: {words}",
            mend="Look at the device's page and at the storage of snapshots; the app's data exists only once meanwhile.",
        )


def _due(now: datetime) -> list[Lease]:
    """Return running leases whose last snapshot, or try, is older than their workload's interval; until one was taken, than FIRST_SECONDS."""
    running = Lease.objects.filter(has_volume=True, is_newest=True, state=LeaseState.RUNNING, action="run")
    known = dict(
        SnapshotRepository.objects.filter(pk__in=running.values("workload_id"))
        .annotate(last=Max("snapshots__wanted_at"))
        .values_list("pk", "last")
    )
    every = dict(SnapshotRepository.objects.filter(pk__in=list(known)).values_list("pk", "every_seconds"))
    taken = Snapshot.objects.filter(repository__in=list(known), state=_S.TAKEN)
    copied = set(taken.values_list("repository_id", flat=True).distinct())
    due = []
    for lease in running.select_related("device").order_by("running_at"):
        seconds = every.get(lease.workload_id, settings.SNAPSHOT_SECONDS)
        seconds = seconds if lease.workload_id in copied else min(seconds, FIRST_SECONDS)
        last = known.get(lease.workload_id) or lease.running_at or now
        if seconds and now - last >= timedelta(seconds=seconds):
            due.append(lease)
    return due[:MANY_AT_ONCE]
