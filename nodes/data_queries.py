"""What screens show of a workload's data: its snapshots, and the way to read one. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nodes.errors import NotFound
from nodes.models import Lease, Snapshot, SnapshotRepository
from nodes.snapshots import restic
from nodes.states import SnapshotState

SHOWN = 50


@dataclass(frozen=True)
class Data:
    """A workload's repository and its last snapshots, newest first."""

    repository: SnapshotRepository
    snapshots: list[Snapshot]

    @property
    def keeps(self) -> str:
        """Return which snapshots are kept, as restic's options."""
        return " ".join(restic.KEEP)

    @property
    def under_way(self) -> bool:
        return any(snapshot.state == SnapshotState.WANTED for snapshot in self.snapshots)


def data_of(workload_id: UUID) -> Data | None:
    """Return what a workload's data page shows; None where no copy was ever wanted. Two queries."""
    repository = SnapshotRepository.objects.filter(pk=workload_id).first()
    if repository is None:
        return None
    shown = Snapshot.objects.filter(repository=repository).exclude(state=SnapshotState.REMOVED)
    return Data(repository, list(shown.select_related("lease__device").order_by("-wanted_at")[:SHOWN]))


@dataclass(frozen=True)
class AtRest:
    """How a workload's data lies on its device's disk."""

    encrypted: bool


def at_rest(workload_id: UUID) -> AtRest | None:
    """Return how a workload's data lies on the disk of the device that runs it; None where none does. One query."""
    running = Lease.objects.filter(
        workload_id=workload_id, is_newest=True, has_volume=True, running_at__isnull=False
    ).values_list("encrypted", flat=True)
    found = list(running)
    return AtRest(all(found)) if found else None


def required_data_of(workload_id: UUID) -> Data:
    """Return what `data_of` does.

    Raises:
        NotFound: no copy was ever wanted.
    """
    data = data_of(workload_id)
    if data is None:
        raise NotFound("This app has no snapshots yet.")
    return data


def snapshot_of(workload_ids: Sequence[UUID], snapshot_id: UUID) -> Snapshot:
    """Return a snapshot of one of these workloads, whatever came of it.

    Raises:
        NotFound: there is no such snapshot.
    """
    found = Snapshot.objects.filter(pk=snapshot_id, repository_id__in=workload_ids).first()
    if found is None:
        raise NotFound("There is no such snapshot.")
    return found


def download_of(workload_ids: Sequence[UUID], snapshot_id: UUID) -> tuple[datetime, AsyncIterator[bytes]]:
    """Return when a snapshot of one of these workloads was taken, and its files as a tar.

    Raises:
        NotFound: there is no such snapshot.
    """
    taken = Snapshot.objects.select_related("repository").filter(
        pk=snapshot_id, repository_id__in=workload_ids, state=SnapshotState.TAKEN
    )
    snapshot = taken.first()
    if snapshot is None or snapshot.taken_at is None:
        raise NotFound("There is no such snapshot any more.")
    return snapshot.taken_at, restic.archive(snapshot.repository, snapshot.restic_id)


def key_of(workload_ids: Sequence[UUID]) -> str:
    """Return the password of the newest repository of these workloads.

    Raises:
        NotFound: none has one.
    """
    repository = SnapshotRepository.objects.filter(pk__in=workload_ids).order_by("-created_at").first()
    if repository is None:
        raise NotFound("This app has no snapshots yet.")
    return repository.key
