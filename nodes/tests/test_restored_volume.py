"""A volume that moves: copied by one real agent with the real restic, restored by another into a file system of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from interchain_site.testing import docker as engine
from interchain_site.testing.devices import make_workload
from nodes.agent import loops, sandbox, uninstall, volume_files
from nodes.agent.config import Home
from nodes.agent.engine import Engine
from nodes.agent.protocol import HealthCheck, Image
from nodes.conftest import eventually
from nodes.models import Device, Lease, Snapshot
from nodes.services import enrolment, leases, placement, snapshots
from nodes.states import DeviceState, LeaseState, SnapshotState
from nodes.tests import test_two_agents as agents
from nodes.tests.test_link import site as site  # the fixture

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.docker, pytest.mark.redis]
PATIENCE = 90
MB = 2**20
SERVE = "httpd -f -p 8080 -h /www"


@pytest.fixture
def portal(site: int, box, settings, tmp_path: Path) -> str:
    """The real portal, with room for snapshots; the site's own device takes nothing."""
    settings.PORTAL_URL = settings.SNAPSHOTS_PORTAL_URL = f"http://127.0.0.1:{site}"
    settings.ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
    store = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path / "snapshots"}}
    settings.STORAGES = {**settings.STORAGES, "snapshots": store}
    Device.objects.filter(pk=box.device.pk).update(state=DeviceState.REVOKED)
    return settings.PORTAL_URL


@contextmanager
def computer(name: str, portal: str, cast, folder: Path) -> Iterator[Device]:
    """A device of its own with an agent that runs; nothing of it is left in Docker after."""
    device, token = enrolment.create_device(owner=cast.owner, name=name, region="us")
    home = folder / name
    agents.enrol(home, portal, token)
    try:
        with agents.agent(home):
            eventually(lambda: Device.objects.filter(pk=device.pk, state=DeviceState.ONLINE).exists(), PATIENCE)
            yield device
    finally:
        engine.remove_labelled(f"io.interchain.device={device.pk}")
        volume_files.erase_all(str(device.pk), Engine("unix:///var/run/docker.sock"))


def inside(lease: Lease, command: str) -> str:
    return engine.docker("exec", sandbox.container_name(str(lease.pk)), "/bin/sh", "-c", command)


def running(lease: Lease) -> Lease:
    return eventually(lambda: Lease.objects.filter(pk=lease.pk, state=LeaseState.RUNNING).first(), PATIENCE)


def image_of(device: Device, workload_id: str) -> Path:
    root = Path(engine.docker("info", "-f", "{{.DockerRootDir}}"))
    return root / volume_files.FOLDER / f"{sandbox.volume_name(str(device.pk), workload_id)}.img"


def taken(lease: Lease) -> Snapshot:
    snapshot = eventually(lambda: snapshots.want(lease=lease, cause=Snapshot.Cause.DEMAND), PATIENCE)
    made = Snapshot.objects.filter(pk=snapshot.pk).exclude(state=SnapshotState.WANTED)
    return eventually(made.all().first, PATIENCE)


def test_data_comes_back_in_a_volume_that_is_held_to_its_size(portal: str, cast, tmp_path: Path) -> None:
    what = make_workload(
        image=Image(reference=engine.image(SERVE)),
        volume_path="/data",
        memory_bytes=64 * MB,
        disk_bytes=64 * MB,
        health=HealthCheck(kind="http", path="/", interval_seconds=1, start_seconds=60),
    )
    with computer("first", portal, cast, tmp_path) as first:
        lease = running(eventually(lambda: placement.open_lease(workload=what, by=None), PATIENCE))
        empty = taken(lease)
        assert (empty.state, empty.volume_bytes, empty.message) == (SnapshotState.TAKEN, 0, ""), "nothing written yet"
        inside(
            lease, "mkdir -p /data/a/b && head -c 3000000 /dev/urandom > /data/a/b/file && ln -s a/b/file /data/link"
        )
        digest = inside(lease, "md5sum < /data/a/b/file")
        inside(lease, "chown -R 1234:1234 /data/a && sync")
        assert image_of(first, what.id).stat().st_size == 64 * MB
        snapshot = taken(lease)
        assert snapshot.state == SnapshotState.TAKEN, snapshot.message
        # Files that claim more than a volume can hold are not read out for hours.
        inside(
            lease, "for i in 0 1 2 3 4 5 6 7; do dd if=/dev/zero of=/data/hole$i bs=1 count=1 seek=60000000; done 2>&1"
        )
        refused = taken(lease)
        assert refused.state == SnapshotState.FAILED
        assert "holes" in refused.message
        eventually(lambda: leases.close_lease(lease_id=lease.pk, by=None) or True, PATIENCE)
        eventually(lambda: Lease.objects.filter(pk=lease.pk, state=LeaseState.STOPPED).exists(), PATIENCE)
    assert not image_of(first, what.id).exists()
    Device.objects.filter(pk=first.pk).update(state=DeviceState.REVOKED)

    with computer("second", portal, cast, tmp_path) as second:
        again = running(eventually(lambda: placement.open_lease(workload=what, by=None), PATIENCE))
        assert (again.device_id, again.restore_from_id) == (second.pk, snapshot.pk)
        assert inside(again, "md5sum < /data/link") == digest
        assert inside(again, "ls -A /data; stat -c %u /data/a/b/file").split() == ["a", "link", "1234"]
        image = image_of(second, what.id)
        assert loops.attached(image)
        mounted = Path(
            engine.docker("inspect", "-f", "{{(index .Mounts 0).Source}}", sandbox.container_name(str(again.pk)))
        )
        assert os.path.ismount(mounted), "a file system of its own"
        assert "No space left" in inside(again, "dd if=/dev/zero of=/data/more bs=1M count=80 2>&1 || true")
        assert image.stat().st_blocks * 512 <= 64 * MB + 64 * 1024
        left = uninstall.run(Home(tmp_path / "second"), keep_volumes=False)
        assert left == [], left
        assert not os.path.ismount(mounted)
        assert not image.exists()
        assert UUID(what.id) == again.workload_id
