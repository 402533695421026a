"""Volumes that hold no more than they may, tried with real file systems, loop devices and containers."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import computer, disks, loops, sandbox
from nodes.agent.errors import SetupError
from nodes.agent.protocol import Action, DesiredLease, Image, Meter, Observed, Profile, Reason
from nodes.agent.tests.conftest import AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.test_sandbox_holds import inside

pytestmark = [pytest.mark.docker, pytest.mark.one_agent]
SERVE = "httpd -f -p 8080 -h /www"
MB = 2**20


@pytest.fixture
def agent(shared_agent: AgentProcess) -> AgentProcess:
    if shared_agent.process is None or shared_agent.process.poll() is not None:
        shared_agent.start()
    return shared_agent


def with_volume(**changes: object) -> DesiredLease:
    values: dict[str, object] = {"image": Image(reference=engine.image(SERVE)), "volume_path": "/data"}
    return lease(workload(**{**values, **changes}))


def running(portal: FakePortal, wanted: DesiredLease) -> str:
    portal.want(wanted)
    portal.wait_for(wanted.lease_id, Observed.RUNNING)
    return sandbox.container_name(wanted.lease_id)


def image_of(portal: FakePortal, wanted: DesiredLease) -> Path:
    root = engine.docker("info", "-f", "{{.DockerRootDir}}")
    return Path(root) / "interchain" / f"{sandbox.volume_name(portal.device_id, wanted.workload.id)}.img"


def loop_devices() -> list[str]:
    return [path.parent.name for path in Path("/sys/block").glob("loop*/loop")]


def test_a_volume_never_holds_more_than_its_size_in_any_number_of_files(
    agent: AgentProcess, portal: FakePortal
) -> None:
    wanted = with_volume(disk_bytes=32 * MB)
    container = running(portal, wanted)
    image = image_of(portal, wanted)
    assert image.stat().st_size == 32 * MB
    code, said = inside(
        container, "i=0; while dd if=/dev/zero of=/data/$i bs=1M count=1 2>&1; do i=$((i+1)); done; exit 3"
    )
    assert code == 3
    assert "No space left" in said
    _, held = inside(container, "du -sk /data")
    assert 24 * 1024 < int(held.split()[0]) <= 32 * 1024
    assert image.stat().st_blocks * 512 <= 32 * MB + 64 * 1024
    code, _ = inside(
        container, "i=0; while touch /data/empty$i; do i=$((i+1)); [ $i -lt 20000 ] || exit 0; done; exit 3"
    )
    assert code == 3, "files without content have an end too"
    assert [one.observed for one in portal.reports[-1][1].statuses] == [Observed.RUNNING], (
        "it is the app's to deal with"
    )
    # What is deleted goes back to the owner's disk.
    inside(container, "rm -rf /data/*; sync")
    portal.wait(lambda: image.stat().st_blocks * 512 < 12 * MB, 30, "freed blocks go back")


def test_data_stays_through_stop_and_start_and_nothing_is_left_after_a_wipe(
    agent: AgentProcess, portal: FakePortal
) -> None:
    wanted = with_volume()
    container = running(portal, wanted)
    assert inside(container, "ls -A /data") == (0, ""), "no lost+found: databases want an empty folder"
    assert inside(container, "dd if=/dev/zero of=/data/file bs=1M count=20 && sync")[0] == 0
    image = image_of(portal, wanted)
    assert loops.attached(image)
    portal.want(replace(wanted, action=Action.STOP))
    portal.wait_for(wanted.lease_id, Observed.STOPPED)
    portal.wait(lambda: not loops.attached(image), 10, "the loop device lets go by itself")
    assert 20 * MB <= disks.used_bytes(image) < 21 * MB
    again = replace(wanted, lease_id="", generation=2, action=Action.RUN)
    again = replace(again, lease_id=lease(again.workload).lease_id)
    portal.want(replace(wanted, action=Action.WIPE), again)
    portal.wait_for(again.lease_id, Observed.RUNNING)
    assert inside(sandbox.container_name(again.lease_id), "stat -c %s /data/file") == (0, f"{20 * MB}\n")
    portal.want(replace(again, action=Action.WIPE))
    portal.wait_for(again.lease_id, Observed.WIPED)
    (receipt,) = portal.wait(
        lambda: [item for item in portal.receipts if item.lease_id == again.lease_id], 60, "the receipt"
    )
    assert 20 * MB <= receipt.volume_bytes < 21 * MB
    assert not list(image.parent.glob(f"{image.stem}*"))
    backing = [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert not [path for path in backing if image.name in path]


def test_a_volume_whose_file_is_gone_is_not_taken_for_an_empty_one(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = with_volume()
    running(portal, wanted)
    portal.want(replace(wanted, action=Action.STOP))
    portal.wait_for(wanted.lease_id, Observed.STOPPED)
    image = image_of(portal, wanted)
    image.rename(image.with_suffix(".away"))
    portal.want(wanted)
    status = portal.wait(
        lambda: (found := portal.status(wanted.lease_id)) and found.reason is Reason.DEVICE_ERROR and found, 20
    )
    assert "data is gone" in status.message
    assert not image.exists()
    assert not engine.docker("ps", "-q", "--filter", f"label=io.interchain.lease={wanted.lease_id}")
    image.with_suffix(".away").rename(image)
    portal.wait_for(wanted.lease_id, Observed.RUNNING)


def test_a_crash_of_app_and_agent_leaves_the_volume_mounted_once(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = with_volume()
    container = running(portal, wanted)
    inside(container, "echo kept > /data/file")
    agent.kill()
    engine.docker("kill", container)
    agent.start()  # the last report still says that it runs
    portal.wait(lambda: inside(container, "cat /data/file") == (0, "kept\n"), 60, "it runs again, with its file")
    held = [name for name in loop_devices() if loops.attached(image_of(portal, wanted)) == f"/dev/{name}"]
    assert len(held) == 1


def test_more_or_less_disk_in_the_next_release_keeps_the_data(agent: AgentProcess, portal: FakePortal) -> None:
    first = with_volume(disk_bytes=32 * MB)
    inside(running(portal, first), "dd if=/dev/zero of=/data/file bs=1M count=20")
    larger = replace(with_volume(), generation=2, workload=replace(first.workload, disk_bytes=64 * MB))
    container = running(portal, larger)
    assert image_of(portal, first).stat().st_size == 64 * MB
    assert inside(container, "dd if=/dev/zero of=/data/more bs=1M count=20; ls /data")[0] == 0
    assert sorted(inside(container, "ls -A /data")[1].split()) == ["file", "more"]
    smaller = replace(with_volume(), generation=3, workload=replace(first.workload, disk_bytes=16 * MB))
    portal.want(smaller)
    status = portal.wait_for(smaller.lease_id, Observed.FAILED)
    assert status.reason is Reason.OUT_OF_DISK, status.message
    fitting = replace(with_volume(), generation=4, workload=replace(first.workload, disk_bytes=56 * MB))
    assert sorted(inside(running(portal, fitting), "ls -A /data")[1].split()) == ["file", "more"]


def test_a_restricted_app_owns_its_volume_and_an_ordinary_image_finds_its_files_there(
    agent: AgentProcess, portal: FakePortal
) -> None:
    strict = with_volume(profile=Profile.RESTRICTED)
    assert inside(running(portal, strict), "echo x > /data/new && stat -c %u /data") == (0, "65532\n")
    filled = engine.image(SERVE, "RUN echo seed > /data/seed && chown 33:33 /data")
    ordinary = with_volume(image=Image(reference=filled))
    container = running(portal, ordinary)
    assert inside(container, "cat /data/seed; stat -c %u /data") == (0, "seed\n33\n")


def test_a_plain_volume_of_an_older_agent_keeps_working_and_its_limit(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = with_volume(disk_bytes=16 * MB)
    name = sandbox.volume_name(portal.device_id, wanted.workload.id)
    labels = sandbox.volume_labels(portal.device_id, wanted.workload.id)
    engine.docker("volume", "create", *(f"--label={key}={value}" for key, value in labels.items()), name)
    folder = Path(engine.docker("volume", "inspect", "-f", "{{.Mountpoint}}", name))
    (folder / "old").write_text("old\n")
    container = running(portal, wanted)
    assert inside(container, "cat /data/old") == (0, "old\n")
    inside(container, "for i in 1 2 3; do dd if=/dev/zero of=/data/$i bs=1M count=8; done")
    status = portal.wait_for(wanted.lease_id, Observed.FAILED, 30)
    assert status.reason is Reason.OUT_OF_DISK
    assert (folder / "old").exists()


def test_storage_counts_what_the_volume_holds(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = with_volume(disk_bytes=64 * MB)
    container = running(portal, wanted)
    inside(container, "dd if=/dev/zero of=/data/file bs=1M count=30 && sync")
    portal.wait(lambda: portal.totals(wanted.lease_id).get(Meter.STORAGE, 0) > 30 * MB, 60, "the volume is counted")
    portal.want(replace(wanted, action=Action.STOP))
    portal.wait_for(wanted.lease_id, Observed.STOPPED)
    first = portal.totals(wanted.lease_id)[Meter.STORAGE]
    portal.wait(lambda: portal.totals(wanted.lease_id)[Meter.STORAGE] > first, 60, "and goes on while it is stopped")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "volume.img"
    disks.make(path, 8 * MB)
    return path


def test_a_file_system_is_made_whole_or_not_at_all(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert image.stat().st_size == 8 * MB
    assert image.stat().st_mode & 0o777 == 0o600
    assert disks.used_bytes(image) < 16 * 1024
    other = image.with_name("other.img")
    monkeypatch.setattr(computer, "program", lambda name: "/bin/false")
    with pytest.raises(SetupError):
        disks.make(other, 8 * MB)
    assert not list(image.parent.glob("other*"))


def test_a_loop_device_lets_go_with_its_last_user_or_when_told(image: Path) -> None:
    path, keep = loops.attach(image)
    assert loops.attached(image) == path
    os.close(keep)
    subprocess.run(["udevadm", "settle"], check=False, capture_output=True) if Path("/run/udev").exists() else None
    assert not loops.attached(image)
    path, keep = loops.attach(image)
    loops.detach(path)
    os.close(keep)
    assert not loops.attached(image)
    loops.detach(path)


def test_what_it_holds_is_known_without_a_mount(image: Path) -> None:
    mounted = image.with_name("mounted")
    mounted.mkdir()
    with mounted_on(image, mounted):
        (mounted / "file").write_bytes(bytes(3 * MB))
        found = os.statvfs(mounted)
        held = (found.f_blocks - found.f_bfree) * found.f_frsize
    assert 3 * MB <= held < 3 * MB + 64 * 1024
    assert disks.used_bytes(image) == held


def test_what_was_removed_before_a_power_failure_is_not_counted(image: Path) -> None:
    mounted, left = image.with_name("mounted"), image.with_name("left.img")
    mounted.mkdir()
    with mounted_on(image, mounted):
        (mounted / "file").write_bytes(os.urandom(3 * MB))
    assert disks.used_bytes(image) >= 3 * MB
    with mounted_on(image, mounted):
        (mounted / "file").unlink()
        until = time.monotonic() + 60
        while image.stat().st_blocks * 512 >= 3 * MB:
            assert time.monotonic() < until, "freed blocks go back"
            subprocess.run(["sync", "--file-system", mounted], check=True)
            time.sleep(0.05)
        subprocess.run(["cp", "--sparse=always", image, left], check=True)
        inside = os.statvfs(mounted)
        held = (inside.f_blocks - inside.f_bfree) * inside.f_frsize
    assert held < 64 * 1024
    assert disks.used_bytes(left) <= held
    assert disks.used_bytes(image) == held


@contextmanager
def mounted_on(image: Path, folder: Path) -> Iterator[None]:
    path, keep = loops.attach(image)
    subprocess.run(["mount", "-t", "ext4", "-o", "discard", path, folder], check=True)
    os.close(keep)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_an_app_never_starts_on_half_of_what_its_image_has(agent: AgentProcess, portal: FakePortal) -> None:
    fill = "for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/data/$i bs=1M count=6; done"
    image = Image(reference=engine.image(SERVE, f"RUN {fill}"))
    wanted = with_volume(image=image, disk_bytes=32 * MB)
    portal.want(wanted)
    status = portal.wait_for(wanted.lease_id, Observed.FAILED, 60)
    assert (status.reason, status.restarts) == (Reason.OUT_OF_DISK, 0)
    larger = replace(wanted.workload, disk_bytes=96 * MB)
    again = replace(wanted, lease_id=lease(larger).lease_id, generation=wanted.generation + 1, workload=larger)
    container = running(portal, again)
    _, sizes = inside(container, "stat -c %s /data/?")
    assert sizes.split() == [str(6 * MB)] * 8
    inside(container, "rm /data/1")
    engine.docker("kill", container)
    portal.wait(lambda: inside(container, "true")[0] == 0, 60, "it runs again")
    assert inside(container, "ls /data/1")[0] != 0, "what an app removed does not come back"
    portal.want()
