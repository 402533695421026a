"""Snapshots in a bucket: a real S3 server that checks signatures, the real restic, the agent's own code between them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.files.storage import storages

from interchain_site.core.models import StaffAlert
from interchain_site.testing import s3
from interchain_site.testing.s3 import Bucket
from nodes.agent.errors import LeaseError
from nodes.errors import Conflict, StorageAway
from nodes.models import Lease, Snapshot, SnapshotRepository
from nodes.services import snapshot_reports, snapshot_storage, snapshots
from nodes.snapshots import store
from nodes.snapshots.store import Repository
from nodes.states import SnapshotState
from nodes.tests.test_snapshots import DEMAND, Agent, running, taken

pytestmark = [
    pytest.mark.redis,
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore:No directory at"),
]
AWAY = "The storage of snapshots cannot be used now. What is in it stays; try again in a while."


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    with s3.bucket() as found:
        yield found


@pytest.fixture
def bucket(server, settings) -> Iterator[Bucket]:
    use(settings, server)
    yield server
    server.cable.plug()


def use(settings, bucket: Bucket, **changes: str) -> None:
    named = {"BACKEND": "nodes.snapshots.s3.SnapshotBucket", "OPTIONS": bucket.options(**changes)}
    settings.STORAGES = {**settings.STORAGES, "snapshots": named}


@pytest.fixture
def agent(live_server, settings, bucket, box, tmp_path):
    settings.PORTAL_URL = settings.SNAPSHOTS_PORTAL_URL = live_server.url
    return Agent(box, live_server.url, tmp_path / "one")


def alerts() -> list[str]:
    return list(StaffAlert.objects.standing().filter(code=snapshot_storage.ALERT).values_list("message", flat=True))


def test_saved_listed_restored_pruned_and_wiped(agent, box, bucket, monkeypatch):
    lease = running(box)
    data = os.urandom(6_000_000)  # more than one of S3's parts, and than is kept in memory
    (agent.volume(lease) / "file").write_bytes(data)
    first = taken(agent, lease)
    mine = Repository(lease.workload_id)
    stored = {name: size for name, size in bucket.objects().items() if name.startswith(str(lease.workload_id))}
    assert mine.bytes() == sum(size for name, size in stored.items() if not name.endswith("config"))
    assert data[:64] not in bucket.contents()
    Lease.objects.filter(pk=lease.pk).update(restore_from=first)
    target = agent.root / "target"
    target.mkdir()
    agent.work.restore(agent.desired(lease), str(target), threading.Event())
    assert (target / "file").read_bytes() == data
    (agent.volume(lease) / "file").write_bytes(b"little")
    taken(agent, lease)
    monkeypatch.setattr("nodes.snapshots.restic.KEEP", ("--keep-last=1",))
    snapshots.tidy(SnapshotRepository.objects.get())
    assert Snapshot.objects.get(pk=first.pk).state == SnapshotState.REMOVED
    assert mine.bytes() < 100_000
    assert snapshots.remove_all(lease.workload_id) > 0
    assert not [name for name in bucket.objects() if name.startswith(str(lease.workload_id))]


def test_a_range_is_fetched_without_the_rest(agent, box, bucket):
    lease = running(box)
    (agent.volume(lease) / "file").write_bytes(os.urandom(4_000_000))
    taken(agent, lease)
    mine = Repository(lease.workload_id)
    name, size = max(((item.name, item.size) for item in mine.items("data")), key=lambda found: found[1])
    whole = b"".join(mine.read("data", name, 0, size))
    assert (len(whole), b"".join(mine.read("data", name, 1000, 500))) == (size, whole[1000:1500])
    with pytest.raises(FileNotFoundError):
        b"".join(mine.read("data", "ab" * 32, 0, 10))
    with pytest.raises(FileNotFoundError):
        mine.size("data", "ab" * 32)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"secret_key": "wrong"}, "refuses our key"),
        ({"access_key": "AKIAIOSFODNN7EXAMPLE"}, "refuses our key"),
        ({"bucket_name": "another"}, "NoSuchBucket"),
        ({"endpoint_url": "http://127.0.0.1:9"}, "Could not connect"),
    ],
    ids=["wrong secret", "unknown key", "no such bucket", "nobody there"],
)
def test_what_is_wrong_is_said_to_staff_and_publisher_and_nothing_is_lost(agent, box, bucket, settings, changes, why):
    lease = running(box)
    (agent.volume(lease) / "file").write_text("kept")
    good = taken(agent, lease)
    use(settings, bucket, **changes)
    began = time.monotonic()
    bad = snapshots.want(lease=lease, cause=DEMAND)
    agent.looks()
    bad.refresh_from_db()
    assert (bad.state, bad.message) == (SnapshotState.FAILED, AWAY)
    assert time.monotonic() - began < 60  # not restic's quarter of an hour
    (said,) = alerts()
    assert why in said
    assert bucket.secret not in said
    with pytest.raises(Conflict, match="storage of snapshots"):
        snapshot_reports.open_for(device=box.device, lease_id=lease.pk)
    snapshots.sweep()  # asks for nothing while it is away
    assert not Snapshot.objects.filter(state=SnapshotState.WANTED).exists()
    use(settings, bucket)
    snapshots.sweep()
    assert alerts() == []
    assert Repository(lease.workload_id).exists("snapshots", good.restic_id)
    assert taken(agent, lease).volume_bytes == 4


def test_the_bucket_goes_away_in_the_middle_of_a_copy(agent, box, bucket, monkeypatch):
    """restic is answered 503 and tries again; when the bucket is back within its patience, the copy is whole."""
    lease = running(box)
    (agent.volume(lease) / "file").write_bytes(os.urandom(40_000_000))
    bucket.cable.pull_after = bucket.cable.carried + 10_000_000
    snapshot = snapshots.want(lease=lease, cause=DEMAND)
    work = threading.Thread(target=agent.looks)
    work.start()
    _until(lambda: bucket.cable._pulled)
    _until(alerts)
    snapshot.refresh_from_db()
    assert snapshot.state == SnapshotState.WANTED
    bucket.cable.plug()
    work.join(120)
    snapshot.refresh_from_db()
    assert (snapshot.state, snapshot.volume_bytes) == (SnapshotState.TAKEN, 40_000_000)
    Lease.objects.filter(pk=lease.pk).update(restore_from=snapshot)
    target = agent.root / "target"
    target.mkdir()
    agent.work.restore(agent.desired(lease), str(target), threading.Event())
    assert (target / "file").read_bytes() == (agent.volume(lease) / "file").read_bytes()


def test_a_restore_while_the_bucket_is_away_is_tried_again_and_no_app_starts_on_half_of_it(agent, box, bucket):
    lease = running(box)
    (agent.volume(lease) / "file").write_text("whole")
    Lease.objects.filter(pk=lease.pk).update(restore_from=taken(agent, lease))
    wanted, target = agent.desired(lease), agent.root / "target"
    target.mkdir()
    bucket.cable.pull()
    with pytest.raises(LeaseError, match="storage of snapshots cannot be used"):
        agent.work.restore(wanted, str(target), threading.Event())
    bucket.cable.plug()
    agent.work.restore(wanted, str(target), threading.Event())
    assert (target / "file").read_text() == "whole"


def test_a_folder_that_cannot_be_written_is_said_as_clearly(settings, tmp_path: Path):
    (tmp_path / "snapshots").write_text("not a folder")
    named = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path / "snapshots"}}
    settings.STORAGES = {**settings.STORAGES, "snapshots": named}
    with pytest.raises(StorageAway) as found:
        store.probe()
    assert "Not a directory" in found.value.why or "File exists" in found.value.why
    assert storages["snapshots"] is not None


def _until(ask, seconds: float = 60) -> None:
    give_up_at = time.monotonic() + seconds
    while not ask():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)
