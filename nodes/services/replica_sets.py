"""What is wanted of each workload, and its counter of generations. The row is the lock under which a workload moves."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction

from interchain_site.core import secrets
from nodes.agent import protocol
from nodes.errors import Conflict, Invalid, MovedMeanwhile
from nodes.models import MOST_REPLICAS, Lease, ReplicaSet

STANDBY_SLOT = MOST_REPLICAS
"""The warm standby's slot, after those of all replicas."""


def lock(workload_id: UUID) -> ReplicaSet | None:
    """Return the workload's row, locked for the caller's transaction; None if it was never wanted."""
    return ReplicaSet.objects.select_for_update().filter(pk=workload_id).first()


def newest_leases(workload_id: UUID) -> dict[int, Lease]:
    """Return the newest lease of each slot, locked, with its device."""
    rows = Lease.objects.filter(workload_id=workload_id, is_newest=True).select_related("device")
    return {lease.slot: lease for lease in rows.select_for_update(of=("self",)).order_by("slot")}


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
    taken = ReplicaSet.objects.filter(pk=wanted.pk, generation=wanted.generation)
    if taken.update(generation=wanted.generation + 1) != 1:
        raise MovedMeanwhile
    wanted.generation += 1
    return wanted.generation


def note_due(wanted: ReplicaSet, due_at: datetime | None, *, tries: int) -> None:
    """Write down when the sweep is to look at a locked workload again; None: all is as wanted."""
    if (wanted.due_at, wanted.tries) != (due_at, tries):
        ReplicaSet.objects.filter(pk=wanted.pk).update(due_at=due_at, tries=tries)
        wanted.due_at, wanted.tries = due_at, tries


def stored(workload: protocol.Workload) -> tuple[dict[str, object], str]:
    """Return the two parts in which a workload is stored: without its environment, and that encrypted."""
    public = json.loads(protocol.to_json(dataclasses.replace(workload, environment={})))
    return public, secrets.encrypt(json.dumps(workload.environment))
