"""The directory: signs for each name where it is served, and hands out what changed.

One record per name, the newest, with a sequence number of its own. What an agent lacks is what has a number above the one it has
seen, whether that is one change or all of them, so delta and snapshot are one query over one index. ADR 0721 has the sums for
100,000 names and 10,000 agents.
"""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import Q
from django.utils import timezone

from nodes.agent import records
from nodes.agent.protocol import Action
from nodes.agent.records import Record
from nodes.errors import NotFound
from nodes.models import DirectoryRecord, Lease
from nodes.services import directory_keys, directory_sequence, succession
from nodes.states import LeaseState

PAGE = 500
SWEEP_MOST = 2000  # records signed in one sweep
MISSED_MINUTES = 10  # leases that moved within so long are looked at again

log = structlog.get_logger()


def renew(workload_id: UUID, *, now: datetime | None = None) -> DirectoryRecord | None:
    """Sign what is true of a workload, if that differs from its record, or the record is past half its life.

    Returns the newest record of the workload's name, or None where there is none and need be none. A record without endpoints
    (stopped, or `wiped`: a tombstone) outlives whatever was signed before it.
    """
    now = now or timezone.now()
    said = _truth(workload_id)
    if said is None or _is_said(said, now):
        return _of(workload_id)
    with transaction.atomic():
        directory_sequence.lock()
        said = _truth(workload_id)  # again, under the lock: the last to sign has seen the newest
        if said is None or _is_said(said, now):
            return _of(workload_id)
        return _sign(said, now)


def guarded_renew(workload_id: UUID) -> None:
    """What fails here is done by the next sweep; a report must not fail for it."""
    try:
        renew(workload_id)
    except DatabaseError as error:
        log.warning("directory_not_renewed", workload=str(workload_id), error=str(error))


def sweep() -> int:
    """Sign what is past half its life or of an old key, and what a lost process left unsigned; forget what is over."""
    now, key = timezone.now(), directory_keys.in_force()
    DirectoryRecord.objects.filter(served=False, expires_at__lte=now).delete()
    half = now + timedelta(seconds=settings.DIRECTORY_RECORD_SECONDS / 2)
    due = DirectoryRecord.objects.filter(Q(expires_at__lte=half, served=True) | Q(~Q(key=key), expires_at__gt=now))
    moved = Lease.objects.filter(state_changed_at__gte=now - timedelta(minutes=MISSED_MINUTES)).exclude(
        state=LeaseState.OFFERED
    )
    ids = [*moved.values_list("workload_id", flat=True).distinct()[:SWEEP_MOST]]
    ids += due.order_by("expires_at").values_list("workload_id", flat=True)[:SWEEP_MOST]
    before = directory_sequence.newest()
    for workload_id in dict.fromkeys(ids):
        guarded_renew(workload_id)
    return directory_sequence.newest() - before


def resolve(name: str) -> str:
    """Return the signed record of a name.

    Raises:
        NotFound: it has none that holds.
    """
    found = DirectoryRecord.objects.filter(name=name, expires_at__gt=timezone.now()).values_list("jws", flat=True)
    for compact in found:
        return compact
    raise NotFound("Nothing is served under this name.")


def changes(*, since: int) -> tuple[int, list[str], bool]:
    """Return the next `since`, the records after this one in order, and whether there are more.

    A `since` that was never given out (the database was restored from a copy) begins from the start.
    """
    newest = directory_sequence.newest()
    since = since if 0 <= since <= newest else 0
    if since == newest:
        return newest, [], False
    rows = DirectoryRecord.objects.filter(sequence__gt=since, sequence__lte=newest, expires_at__gt=timezone.now())
    found = list(rows.order_by("sequence").values_list("sequence", "jws")[: PAGE + 1])
    if len(found) <= PAGE:
        return newest, [jws for _, jws in found], False
    return found[PAGE - 1][0], [jws for _, jws in found[:PAGE]], True


def holds(*, workload_id: str, endpoint: str) -> bool:
    """Whether an endpoint is in the record of a workload: only such a one is worth asking after."""
    try:
        known = UUID(workload_id)
    except ValueError:
        return False
    for jws in DirectoryRecord.objects.filter(workload_id=known, served=True).values_list("jws", flat=True):
        return endpoint in records.unchecked(jws).endpoints
    return False


def _truth(workload_id: UUID) -> Record | None:
    """Return what a record of the workload should say, without sequence and times; None if it has no say."""
    leases = Lease.objects.filter(workload_id=workload_id)
    newest = leases.order_by("-generation").first()
    if newest is None:
        return None
    if Lease.objects.filter(name=newest.name, action=Action.RUN.value).exclude(workload_id=workload_id).exists():
        return None  # the name is another's by now
    found = [(succession.client_endpoint_of(lease), lease) for lease in succession.serving(workload_id)]
    serving = [(endpoint, lease) for endpoint, lease in found if records.is_endpoint(endpoint)]
    serving = serving[: records.MOST_ENDPOINTS]
    return Record(
        name=newest.name,
        workload_id=str(workload_id),
        generation=newest.generation,
        endpoints=tuple(endpoint for endpoint, _ in serving),
        generations=tuple(lease.generation for _, lease in serving),
        slots=tuple(lease.slot for _, lease in serving),
        wiped=not leases.exclude(state=LeaseState.WIPED).exists(),
        sequence=0,
        issued=0,
        expires=0,
    )


def _of(workload_id: UUID) -> DirectoryRecord | None:
    return DirectoryRecord.objects.filter(workload_id=workload_id).order_by("-sequence").first()


def _is_said(said: Record, now: datetime) -> bool:
    """Whether the newest record of the name says this already and holds long enough."""
    known = DirectoryRecord.objects.filter(name=said.name).select_related("key").first()
    if known is None:
        return not said.endpoints  # no agent holds anything else
    if str(known.workload_id) != said.workload_id:
        return not said.endpoints  # it has left the name to the other
    fresh = not known.served or known.expires_at > now + timedelta(seconds=settings.DIRECTORY_RECORD_SECONDS / 2)
    return known.content == _content(said) and fresh and bool(known.key.private_key_encrypted)


def _sign(said: Record, now: datetime) -> DirectoryRecord:
    """Write the record. The caller holds the directory's lock."""
    key = directory_keys.in_force()
    expires_at = now + timedelta(seconds=settings.DIRECTORY_RECORD_SECONDS)
    sequence = directory_sequence.take()
    record = dataclasses.replace(
        said, sequence=sequence, issued=int(now.timestamp()), expires=int(expires_at.timestamp())
    )
    found, _ = DirectoryRecord.objects.update_or_create(
        name=said.name,
        defaults={
            "workload_id": UUID(said.workload_id),
            "generation": said.generation,
            "sequence": sequence,
            "issued_at": now,
            "expires_at": expires_at,
            "served": bool(said.endpoints),
            "content": _content(said),
            "jws": records.sign(record, directory_keys.signer(key)),
            "key": key,
        },
    )
    return found


def _content(said: Record) -> str:
    return hashlib.sha256(records.canonical(dataclasses.asdict(said)).encode()).hexdigest()
