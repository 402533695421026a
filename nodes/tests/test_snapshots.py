"""Snapshots with the real restic, over HTTP, through the agent's own code: taken, restored elsewhere, interrupted, kept from thieves.

Longer than 300 lines because all of it shares one device that works the real restic.
"""

from __future__ import annotations

import base64
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import httpx
import pytest
import time_machine
from asgiref.sync import async_to_sync
from django.utils import timezone

from interchain_site.core.models import AuditEvent, StaffAlert
from interchain_site.testing.devices import FakeDevice, make_device, make_workload
from nodes import data_queries, queries
from nodes.agent import keys
from nodes.agent.errors import AgentError, LeaseError
from nodes.agent.protocol import REPOSITORY_PATH, DesiredLease
from nodes.agent.server_api import Portal
from nodes.agent.snapshots import EMPTY_NAME, Snapshots
from nodes.errors import Conflict, NotFound
from nodes.models import Lease, Snapshot, SnapshotRepository
from nodes.services import data_home, leases, placement, snapshot_reports, snapshots
from nodes.snapshots.store import Repository
from nodes.states import SnapshotState

pytestmark = [
    pytest.mark.redis,
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore:No directory at"),  # the server of the session has no static files
]
DEMAND = Snapshot.Cause.DEMAND


class Agent:
    """A device's own snapshot code, with a folder for each volume."""

    def __init__(self, box: FakeDevice, url: str, root: Path) -> None:
        self.box, self.url, self.root = box, url, root
        key = root / "device.key"
        root.mkdir()
        key.touch(0o600)
        key.write_bytes(box.key.as_pem(private=True))
        self.key = keys.load(key)
        self.running: set[str] = set()
        self.work = self.made()

    def made(self) -> Snapshots:
        return Snapshots(
            self.root,
            device_id=self.box.id,
            sign=self.key.sign,
            portal=self.portal,
            opened=self.opened,
            runs=lambda lease_id: lease_id in self.running,
        )

    def portal(self) -> Portal:
        return Portal(self.url, device_id=self.box.id, key=self.key)

    def volume(self, lease: Lease) -> Path:
        path = self.root / "volumes" / str(lease.workload_id)
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def opened(self, workload_id: str) -> Iterator[str]:
        path = self.root / "volumes" / workload_id
        if not path.exists():
            raise AgentError("The volume is not there, so it was not copied.")
        yield str(path)

    def desired(self, lease: Lease) -> DesiredLease:
        found = queries.desired_of(self.box.device).leases
        return next(each for each in found if each.lease_id == str(lease.pk))

    def looks(self) -> None:
        """Do what the portal wants now, to its end."""
        self.work.want(queries.desired_of(self.box.device).leases)
        for thread in threading.enumerate():
            if thread.name == "snapshot":
                thread.join(60)


@pytest.fixture
def at(live_server, settings, tmp_path):
    settings.PORTAL_URL = settings.SNAPSHOTS_PORTAL_URL = live_server.url
    settings.STORAGES = {
        **settings.STORAGES,
        "snapshots": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": tmp_path / "snapshots"},
        },
    }
    return SimpleNamespace(url=live_server.url, folder=tmp_path)


@pytest.fixture
def agent(at, box):
    return Agent(box, at.url, at.folder / "one")


def running(box: FakeDevice, **changes: object) -> Lease:
    lease = placement.open_lease(workload=make_workload(volume_path="/data", **changes), by=None)
    box.runs(lease)
    return lease


def taken(agent: Agent, lease: Lease) -> Snapshot:
    snapshot = snapshots.want(lease=lease, cause=DEMAND)
    agent.looks()
    snapshot.refresh_from_db()
    assert snapshot.state == SnapshotState.TAKEN, snapshot.message
    return snapshot


def restored(lease: Lease, snapshot: Snapshot, other: Agent) -> Path:
    """Let the lease begin on another device with this snapshot; returns its volume there."""
    leases.close_lease(lease_id=lease.pk, by=None)
    Lease.objects.filter(pk=lease.pk).update(
        device=other.box.device, action="run", state="preparing", restore_from=snapshot
    )
    target = other.volume(lease)
    (target / "stale").write_text("from long ago")
    other.work.restore(other.desired(lease), str(target), threading.Event())
    return target


def test_a_copy_comes_back_whole_on_another_device(agent, box, cast, at):
    lease = running(box)
    folder = agent.volume(lease)
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_bytes(os.urandom(300_000))
    (folder / "link").symlink_to("deep/file")
    os.chown(folder / "deep", 1234, 1234)
    snapshot = taken(agent, lease)
    assert snapshot.volume_bytes == 300_000
    assert SnapshotRepository.objects.get().bytes > 300_000
    other = Agent(make_device(cast.owner, "Other"), at.url, at.folder / "two")
    target = restored(lease, snapshot, other)
    assert (target / "deep" / "file").read_bytes() == (folder / "deep" / "file").read_bytes()
    assert (target / "link").readlink() == Path("deep/file")
    assert (target / "deep").stat().st_uid == 1234
    assert not (target / "stale").exists()
    (target / "new").write_text("written since")
    other.made().restore(other.desired(lease), str(target), threading.Event())
    assert (target / "new").exists()  # after a restart of the agent too, it is done once


@pytest.mark.slow
def test_only_what_is_new_is_added(agent, box):
    lease = running(box)
    (agent.volume(lease) / "big").write_bytes(os.urandom(2_000_000))
    first = taken(agent, lease)
    (agent.volume(lease) / "small").write_text("a little")
    second = taken(agent, lease)
    assert first.added_bytes > 2_000_000
    assert second.added_bytes < 50_000
    assert data_home.newest_snapshot(lease.workload_id) == second


def test_the_portal_holds_only_ciphertext(agent, box, at):
    lease = running(box)
    (agent.volume(lease) / "secret").write_text("the combination is 12345" * 100)
    taken(agent, lease)
    stored = b"".join(path.read_bytes() for path in (at.folder / "snapshots").rglob("*") if path.is_file())
    assert b"combination" not in stored
    assert SnapshotRepository.objects.get().key not in SnapshotRepository.objects.get().key_encrypted


def test_a_missing_volume_is_no_empty_one(agent, box):
    lease = running(box)
    snapshot = snapshots.want(lease=lease, cause=DEMAND)
    agent.looks()
    snapshot.refresh_from_db()
    assert (snapshot.state, snapshot.message) == (
        SnapshotState.FAILED,
        "The volume is not there, so it was not copied.",
    )
    assert data_home.newest_snapshot(lease.workload_id) is None


def test_a_volume_nothing_was_written_into_is_copied_and_comes_back_empty(agent, box, cast, at):
    lease = running(box)
    folder = agent.volume(lease)
    snapshot = taken(agent, lease)
    assert snapshot.volume_bytes == 0
    assert not list(folder.iterdir())
    assert data_home.newest_snapshot(lease.workload_id) == snapshot
    target = restored(lease, snapshot, Agent(make_device(cast.owner, "Other"), at.url, at.folder / "two"))
    assert not list(target.iterdir())


def test_a_file_of_the_apps_own_with_that_name_comes_back(agent, box, cast, at):
    lease = running(box)
    (agent.volume(lease) / EMPTY_NAME).write_text("mine")
    snapshot = taken(agent, lease)
    assert snapshot.volume_bytes == 4
    target = restored(lease, snapshot, Agent(make_device(cast.owner, "Other"), at.url, at.folder / "two"))
    assert (target / EMPTY_NAME).read_text() == "mine"


def test_a_volume_that_cannot_be_looked_into_is_no_empty_one(agent, box):
    lease = running(box)
    agent.volume(lease).rmdir()
    agent.opened = lambda workload_id: nullcontext(str(agent.root / "volumes" / workload_id))
    agent.work = agent.made()
    snapshot = snapshots.want(lease=lease, cause=DEMAND)
    agent.looks()
    snapshot.refresh_from_db()
    assert snapshot.state == SnapshotState.FAILED
    assert "cannot be read" in snapshot.message
    assert data_home.newest_snapshot(lease.workload_id) is None


@pytest.mark.slow
def test_storage_away_fails_in_words_and_the_next_one_works(agent, box, at, settings):
    lease = running(box)
    (agent.volume(lease) / "file").write_text("x")
    taken(agent, lease)
    good = at.folder / "snapshots"
    good.rename(at.folder / "away")
    good.write_text("not a folder")
    bad = snapshots.want(lease=lease, cause=DEMAND)
    agent.looks()
    bad.refresh_from_db()
    assert bad.state == SnapshotState.FAILED
    good.unlink()
    (at.folder / "away").rename(good)
    taken(agent, lease)


@pytest.mark.slow
def test_an_interrupted_copy_counts_for_nothing(agent, box, monkeypatch):
    """restic is killed in the middle: the next copy takes up what arrived, and what was there before is untouched."""
    lease = running(box)
    (agent.volume(lease) / "file").write_bytes(os.urandom(30_000_000))
    real = subprocess.Popen

    def killed(command, **more):
        process = real(command, **more)
        if command[1] == "backup":
            threading.Timer(0.7, process.kill).start()
        return process

    monkeypatch.setattr(subprocess, "Popen", killed)
    first = snapshots.want(lease=lease, cause=DEMAND)
    agent.looks()
    first.refresh_from_db()
    monkeypatch.setattr(subprocess, "Popen", real)
    if first.state != SnapshotState.TAKEN:  # fast machines are done before
        assert first.state == SnapshotState.FAILED
        assert data_home.newest_snapshot(lease.workload_id) is None
    assert taken(agent, lease).volume_bytes == 30_000_000


def test_a_restore_that_broke_off_begins_again(agent, box, monkeypatch):
    lease = running(box)
    (agent.volume(lease) / "file").write_text("whole")
    Lease.objects.filter(pk=lease.pk).update(restore_from=taken(agent, lease))
    wanted, target = agent.desired(lease), agent.root / "target"
    target.mkdir()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LeaseError, match="restic is not installed"):
        agent.work.restore(wanted, str(target), threading.Event())
    monkeypatch.undo()
    (target / "half").write_text("of it")
    agent.work.restore(wanted, str(target), threading.Event())
    assert [path.name for path in target.iterdir()] == ["file"]


def test_a_device_cannot_remove_what_was_kept(agent, box):
    lease = running(box)
    (agent.volume(lease) / "file").write_text("x")
    snapshot = taken(agent, lease)
    opened = snapshot_reports.open_for(device=box.device, lease_id=lease.pk)
    root = f"{agent.url}{REPOSITORY_PATH}{lease.workload_id}"
    with httpx.Client(auth=(opened.user, opened.password), trust_env=False) as client:
        assert client.delete(f"{root}/snapshots/{snapshot.restic_id}").status_code == 403
        assert client.delete(f"{root}/config").status_code == 403
        assert client.post(f"{root}/config", content=b"mine").status_code == 403
        assert client.post(f"{root}/data/{'ab' * 32}", content=b"rubbish").status_code == 400
        assert client.get(f"{root}/data/..%2f..%2fconfig").status_code == 404
        assert client.get(f"{root}/other/{'ab' * 32}").status_code == 404
        assert client.get(f"{agent.url}{REPOSITORY_PATH}{uuid4()}/config").status_code == 401
    assert Repository(lease.workload_id).exists("snapshots", snapshot.restic_id)


def test_without_a_password_nothing_opens(agent, box):
    lease = running(box)
    snapshots.repository_of(lease)
    url = f"{agent.url}{REPOSITORY_PATH}{lease.workload_id}/config"
    for value in ("", "Basic", "Basic !!", "Basic " + base64.b64encode(b"a:b").decode(), "Bearer x"):
        assert httpx.get(url, headers={"Authorization": value}, trust_env=False).status_code == 401


def test_another_device_gets_no_key_and_its_word_does_not_count(agent, box, cast):
    lease = running(box)
    stranger = make_device(cast.stranger, "Stranger")
    with pytest.raises(NotFound):
        snapshot_reports.open_for(device=stranger.device, lease_id=lease.pk)
    snapshot = snapshots.want(lease=lease, cause=DEMAND)
    said = agent.key
    agent.box = stranger
    with pytest.raises(NotFound):
        snapshot_reports.take_report(device=stranger.device, jws=_report(stranger, snapshot))
    assert said is agent.key
    snapshot.refresh_from_db()
    assert snapshot.state == SnapshotState.WANTED


def test_a_snapshot_that_never_arrived_is_not_believed(agent, box):
    lease = running(box)
    snapshot = snapshots.want(lease=lease, cause=DEMAND)
    snapshot_reports.take_report(device=box.device, jws=_report(box, snapshot))
    snapshot.refresh_from_db()
    assert snapshot.state == SnapshotState.FAILED


def test_a_full_repository_refuses_more(agent, box):
    lease = running(box)
    opened = snapshot_reports.open_for(device=box.device, lease_id=lease.pk)
    SnapshotRepository.objects.update(limit_bytes=1000, bytes=900)
    url = f"{agent.url}{REPOSITORY_PATH}{lease.workload_id}/data/{'ab' * 32}"
    auth = (opened.user, opened.password)
    assert httpx.post(url, content=b"x" * 101, auth=auth, trust_env=False).status_code == 413
    SnapshotRepository.objects.update(bytes=1000)
    agent.volume(lease)
    snapshot = snapshots.want(lease=lease, cause=DEMAND)
    agent.looks()
    snapshot.refresh_from_db()
    assert "hold as much as they may" in snapshot.message


def test_they_are_taken_on_schedule_and_not_while_one_is_under_way(agent, box, settings):
    lease, now = running(box), timezone.now()
    snapshots.sweep()
    assert not Snapshot.objects.exists()
    with time_machine.travel(now + timedelta(seconds=snapshots.FIRST_SECONDS + 1), tick=False):
        snapshots.sweep()
        snapshots.sweep()
    assert Snapshot.objects.get().lease == lease, "the first one soon"
    again = now + timedelta(seconds=2 * snapshots.FIRST_SECONDS + 2)
    assert snapshots._due(again) == [lease], "it may have failed"
    Snapshot.objects.update(state=SnapshotState.TAKEN, restic_id="ab" * 32, taken_at=now, ended_at=now)
    assert snapshots._due(again) == []
    assert snapshots._due(again + timedelta(seconds=settings.SNAPSHOT_SECONDS)) == [lease]
    SnapshotRepository.objects.update(every_seconds=0)
    Snapshot.objects.all().delete()
    with time_machine.travel(timezone.now() + timedelta(days=2), tick=False):
        assert snapshots._due(timezone.now()) == []


@pytest.mark.slow
def test_three_failures_tell_staff_and_a_success_ends_it(agent, box):
    lease = running(box)
    for _ in range(3):
        snapshots.want(lease=lease, cause=DEMAND)
        agent.looks()
    assert StaffAlert.objects.standing().filter(code="snapshots_fail").count() == 1
    (agent.volume(lease) / "file").write_text("x")
    taken(agent, lease)
    assert not StaffAlert.objects.standing().filter(code="snapshots_fail").exists()


@pytest.mark.slow
def test_what_is_past_its_time_goes_and_its_space_with_it(agent, box, monkeypatch):
    lease = running(box)
    for number in range(3):
        (agent.volume(lease) / "file").write_bytes(os.urandom(400_000))
        taken(agent, lease)
        assert number < 3
    monkeypatch.setattr("nodes.snapshots.restic.KEEP", ("--keep-last=1",))
    before = SnapshotRepository.objects.get()
    snapshots.tidy(before)
    states = list(Snapshot.objects.order_by("wanted_at").values_list("state", flat=True))
    assert states == [SnapshotState.REMOVED, SnapshotState.REMOVED, SnapshotState.TAKEN]
    assert SnapshotRepository.objects.get().bytes < before.bytes / 2
    snapshots.tidy(before)  # a second worker that saw the same row does nothing
    taken(agent, lease)


def test_they_go_with_the_data(agent, box, at):
    lease = running(box)
    (agent.volume(lease) / "file").write_text("x")
    taken(agent, lease)
    assert snapshots.remove_all(lease.workload_id) >= 4
    assert snapshots.remove_all(lease.workload_id) == 0
    assert not [path for path in (at.folder / "snapshots").rglob("*") if path.is_file()]
    assert not SnapshotRepository.objects.exists()
    assert AuditEvent.objects.filter(action="snapshots_wiped").count() == 1


def test_an_app_without_data_has_none(box):
    lease = placement.open_lease(workload=make_workload(), by=None)
    box.runs(lease)
    with pytest.raises(Conflict, match="keeps no data"):
        snapshots.want(lease=lease, cause=DEMAND)


def _report(box: FakeDevice, snapshot: Snapshot) -> str:
    from nodes.agent.protocol import SnapshotReport, to_json

    report = SnapshotReport(
        str(snapshot.pk), str(snapshot.lease_id), box.id, timezone.now().isoformat(), restic_id="ab" * 32
    )
    return box.sign(to_json(report))


def test_a_download_is_a_tar_of_its_files(agent, box):
    lease = running(box)
    (agent.volume(lease) / "file").write_text("hello")
    snapshot = taken(agent, lease)
    _, chunks = data_queries.download_of([lease.workload_id], snapshot.pk)

    async def collect() -> bytes:
        return b"".join([chunk async for chunk in chunks])

    with tarfile.open(fileobj=io.BytesIO(async_to_sync(collect)())) as tar:
        assert tar.extractfile("file").read() == b"hello"
    with pytest.raises(NotFound):
        data_queries.download_of([uuid4()], snapshot.pk)
