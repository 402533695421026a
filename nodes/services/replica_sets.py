"""What is wanted of each workload, and its counter of generations. The row is the lock under which a workload moves."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from functools import reduce
from operator import or_
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F, Q

from interchain_site.core import secrets
from nodes.agent import protocol
from nodes.errors import Conflict, Invalid, MovedMeanwhile
from nodes.models import MOST_REPLICAS, Lease, ReplicaSet

STANDBY_SLOT = MOST_REPLICAS
"""The warm standby's slot, after those of all replicas."""


def lock(workload_id: UUID) -> ReplicaSet | None:
    """Return the workload's row, locked for the caller's transaction; None if it was never wanted."""
    return ReplicaSet.objects.select_for_update().filter(pk=workload_id).first()


def lock_many(workload_ids: Collection[UUID], *, passing_over: bool = False) -> dict[UUID, ReplicaSet]:
    """Return the rows of workloads by id, locked in the order of their ids.

    Args:
        passing_over: those that somebody else has locked are left out.
    """
    rows = ReplicaSet.objects.select_for_update(skip_locked=passing_over).filter(pk__in=workload_ids)
    return {wanted.pk: wanted for wanted in rows.order_by("pk")}


def newest_leases(workload_id: UUID) -> dict[int, Lease]:
    """Return the newest lease of each slot, locked, with its device."""
    return newest_leases_of([workload_id])[workload_id]


def newest_leases_of(workload_ids: Collection[UUID]) -> dict[UUID, dict[int, Lease]]:
    """Return `newest_leases` of many workloads, in one query."""
    rows = Lease.objects.filter(workload_id__in=workload_ids, is_newest=True).select_related("device")
    found: dict[UUID, dict[int, Lease]] = {workload_id: {} for workload_id in workload_ids}
    for lease in rows.select_for_update(of=("self",)).order_by("workload_id", "slot"):
        found[lease.workload_id][lease.slot] = lease
    return found


def want(
    known: ReplicaSet | None,
    workload: protocol.Workload,
    *,
    replicas: int,
    standby: bool,
    region: str = "",
    version: int | None = None,
) -> ReplicaSet:
    """Write down that a workload is to run like this from now on, in its row as the caller locked it; returns it.

    Args:
        version: which one this is, if it was wanted before; None: a new one.

    Raises:
        Invalid: so many replicas cannot be. Conflict: its name is taken by another one that runs.
        MovedMeanwhile: somebody else asked at the same moment.
    """
    if not 1 <= replicas <= MOST_REPLICAS:
        raise Invalid(fields={"replicas": f"From 1 to {MOST_REPLICAS}."})
    if workload.volume_path and replicas > 1:
        raise Invalid(fields={"replicas": "An app that keeps data runs once: each copy would have data of its own."})
    workload_id = UUID(workload.id)
    public, environment = stored(workload)
    values = {
        "name": workload.name,
        "wanted": True,
        "replicas": replicas,
        "standby": standby,
        "region": region,
        "version": (known.generation if known else 0) + 1 if version is None else version,
        "workload_public": public,
        "environment_encrypted": environment,
        "has_volume": bool(workload.volume_path),
        "due_at": None,
        "tries": 0,
    }
    try:
        with transaction.atomic():
            if known is None:
                return ReplicaSet.objects.create(pk=workload_id, **values)
            ReplicaSet.objects.filter(pk=workload_id).update(**values)
    except IntegrityError as error:
        if ReplicaSet.objects.filter(name=workload.name, wanted=True).exclude(pk=workload_id).exists():
            raise Conflict(f"The name {workload.name} is taken by something that runs now.") from error
        raise MovedMeanwhile from error
    for name, value in values.items():
        setattr(known, name, value)
    return known


def next_generation(wanted: ReplicaSet) -> int:
    """Take the next number of the workload's counter, by compare-and-set.

    Raises:
        MovedMeanwhile: somebody else took it.
    """
    return next(next_generations([wanted], {wanted.pk: 1})[wanted.pk])


def next_generations(sets: Collection[ReplicaSet], counts: Mapping[UUID, int]) -> dict[UUID, Iterator[int]]:
    """Take so many numbers of each workload's counter, by compare-and-set; one statement for each count that occurs.

    Raises:
        MovedMeanwhile: somebody else took some of them.
    """
    taken = {}
    for count in set(counts.values()):
        alike = [wanted for wanted in sets if counts[wanted.pk] == count]
        seen: dict[int, list[UUID]] = {}
        for wanted in alike:
            seen.setdefault(wanted.generation, []).append(wanted.pk)
        as_seen = reduce(or_, (Q(pk__in=pks, generation=generation) for generation, pks in seen.items()))
        if ReplicaSet.objects.filter(as_seen).update(generation=F("generation") + count) != len(alike):
            raise MovedMeanwhile
        for wanted in alike:
            taken[wanted.pk] = iter(range(wanted.generation + 1, wanted.generation + count + 1))
            wanted.generation += count
    return taken


def note_due(wanted: ReplicaSet, due_at: datetime | None, *, tries: int) -> None:
    """Write down when the sweep is to look at a locked workload again; None: all is as wanted."""
    note_due_many([(wanted, due_at, tries)])


def note_due_many(noted: Iterable[tuple[ReplicaSet, datetime | None, int]]) -> None:
    """Write down for locked workloads when the sweep is to look at each again, and how often it tried; one statement for all alike."""
    changed: dict[tuple[datetime | None, int], list[ReplicaSet]] = {}
    for wanted, due_at, tries in noted:
        if (wanted.due_at, wanted.tries) != (due_at, tries):
            changed.setdefault((due_at, tries), []).append(wanted)
    for (due_at, tries), sets in changed.items():
        ReplicaSet.objects.filter(pk__in=[wanted.pk for wanted in sets]).update(due_at=due_at, tries=tries)
        for wanted in sets:
            wanted.due_at, wanted.tries = due_at, tries


def stored(workload: protocol.Workload) -> tuple[dict[str, object], str]:
    """Return the two parts in which a workload is stored: without its environment, and that encrypted."""
    public = json.loads(protocol.to_json(dataclasses.replace(workload, environment={})))
    return public, secrets.encrypt(json.dumps(workload.environment))
