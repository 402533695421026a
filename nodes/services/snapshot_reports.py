"""What devices do about snapshots: open a repository, and say, signed, what came of a copy."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from interchain_site.core import audit
from interchain_site.core.alerts import clear_alert
from nodes.agent import protocol
from nodes.errors import Conflict, Malformed, NotFound, StorageAway
from nodes.models import Device, Lease, Snapshot, SnapshotRepository
from nodes.services import leases, snapshot_storage, snapshots, texts
from nodes.services.signatures import payload_of
from nodes.snapshots import grants
from nodes.snapshots.grants import Grant
from nodes.snapshots.store import Repository
from nodes.states import LeaseState, SnapshotState, transition_snapshot

_S = SnapshotState


def open_for(*, device: Device, lease_id: UUID) -> protocol.SnapshotAccess:
    """Let a device read and add to the repository of a workload it holds a lease of.

    Raises:
        NotFound: it holds no such lease, or that keeps no data.
        Conflict: the repository is full, or its storage cannot be used.
        Busy: Redis is away.
    """
    lease = Lease.objects.filter(pk=lease_id, device=device, has_volume=True).exclude(state=LeaseState.WIPED).first()
    if lease is None or not lease.is_newest:
        raise NotFound("This device has no such lease, or another one took its place.")
    repository = snapshots.repository_of(lease)
    if lease.restore_from_id is None and repository.bytes >= repository.limit_bytes:
        # Said here, because restic would try each refused upload for a quarter of an hour.
        raise Conflict("This app's snapshots hold as much as they may. Older ones go by and by; or ask for more.")
    try:
        snapshot_storage.check()
    except StorageAway as error:
        raise Conflict(error.message) from error  # final for this try: restic would go on for a quarter of an hour
    user, password = grants.make(Grant(str(lease.workload_id), device_id=str(device.pk)))
    return protocol.SnapshotAccess(user, password, repository.key)


def take_report(*, device: Device, jws: str) -> None:
    """Take a device's word on a snapshot; the same again changes nothing.

    Raises:
        BadSignature: not signed by this device.
        Malformed: not the agreed form.
        NotFound: no such snapshot was wanted of it.
    """
    report = _parse(device, payload_of(device, jws))
    now = timezone.now()
    with transaction.atomic():
        wanted = Snapshot.objects.select_for_update(of=("self",)).select_related("lease", "repository")
        snapshot = wanted.filter(pk=UUID(report.snapshot_id), lease__device=device).first()
        if snapshot is None:
            raise NotFound("No such snapshot was wanted of this device.")
        if snapshot.state != _S.WANTED:
            return
        if not report.restic_id:
            words = _trouble_here() or texts.clean(report.message, 300) or "The device did not say why."
            snapshots.fail(snapshot, words, now)
            return
        if not Repository(snapshot.repository_id).exists("snapshots", report.restic_id):
            snapshots.fail(snapshot, "The device reported a snapshot that never arrived.", now)
            return
        taken_at = min(max(_moment(report.taken_at), snapshot.wanted_at), now)
        transition_snapshot(
            snapshot, _S.TAKEN, restic_id=report.restic_id, volume_bytes=report.volume_bytes,
            added_bytes=report.added_bytes, taken_at=taken_at, ended_at=now,
        )  # fmt: skip
        SnapshotRepository.objects.filter(pk=snapshot.repository_id).update(bytes=F("bytes") + report.added_bytes)
        audit.record("snapshot_taken", subject=f"lease:{snapshot.lease_id}", actor=f"device:{device.pk}")
        clear_alert(code="snapshots_fail", subject=f"workload:{snapshot.repository_id}")
        if snapshot.cause in (Snapshot.Cause.MOVE, Snapshot.Cause.RELEASE):
            leases.note_due(snapshot.lease)  # it may begin elsewhere now, or with the next release


def _trouble_here() -> str:
    """Return why a copy had to fail, if it is not the device's doing: restic only tells it what status it was answered."""
    try:
        snapshot_storage.check()
    except StorageAway as error:
        return error.message
    return ""


def _parse(device: Device, payload: bytes) -> protocol.SnapshotReport:
    try:
        report = protocol.from_json(protocol.SnapshotReport, payload)
        UUID(report.snapshot_id)
        if report.restic_id and len(bytes.fromhex(report.restic_id)) != 32:
            raise ValueError("SnapshotReport.restic_id: not 64 hex digits.")
    except (protocol.ProtocolError, ValueError) as error:
        raise Malformed(str(error)) from None
    if report.device_id != str(device.pk):
        raise Malformed("SnapshotReport.device_id: not the device that signed.")
    if not (0 <= report.volume_bytes < 2**62 and 0 <= report.added_bytes < 2**62):
        raise Malformed("SnapshotReport: bytes out of range.")
    _moment(report.taken_at)
    return report


def _moment(text: str) -> datetime:
    try:
        moment = parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Malformed("SnapshotReport.taken_at: not a time with its zone (ISO 8601).")
    return moment
