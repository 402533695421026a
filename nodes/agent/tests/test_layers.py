"""The writable layer held by Docker's own quota, on a Docker of the test's own that keeps its data on btrfs."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from interchain_site.testing import docker as ordinary
from nodes.agent import layers, trials
from nodes.agent.config import Config
from nodes.agent.docker_executor import DockerExecutor
from nodes.agent.engine import Engine
from nodes.agent.images import Images
from nodes.agent.protocol import Image
from nodes.agent.tests.conftest import lease, workload
from nodes.agent.tests.private_engine import PrivateEngine, private_engine

pytestmark = pytest.mark.docker
MB = 2**20


@pytest.fixture(scope="module")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateEngine]:
    folder = tmp_path_factory.mktemp("btrfs")
    disk = folder / "disk"
    with disk.open("wb") as file:
        file.truncate(600 * MB)
    subprocess.run(["mkfs.btrfs", "-q", disk], check=True, capture_output=True)
    (folder / "data").mkdir()
    subprocess.run(["mount", "-o", "loop", disk, folder / "data"], check=True)
    try:
        with private_engine(folder, data=folder / "data", options=["--storage-driver", "btrfs"]) as running:
            yield running
    finally:
        subprocess.run(["umount", "-R", "-l", folder / "data"], check=True)


def test_the_kernel_refuses_what_is_too_much_for_the_writable_layer(btrfs: PrivateEngine, tmp_path: Path) -> None:
    engine = Engine(btrfs.address)
    assert {check.name for check in trials.run(engine, engine.call("GET", "/info")) if check.ok} >= {
        trials.VOLUMES,
        trials.LAYERS,
    }
    config = Config("layers-test", "http://127.0.0.1", "ws://127.0.0.1", 10**9, subnet_pool="10.232.0.0/16")
    executor = DockerExecutor(config, engine=engine, images=Images(engine, fetch=lambda *_: None, folder=tmp_path))
    executor.prepare()
    image = btrfs.docker("import", "-", "busybox:test", input=ordinary.busybox_root()).strip()
    built = btrfs.docker("build", "-q", "-", input=f'FROM {image}\nCMD ["sleep", "600"]\n'.encode()).strip()
    wanted = lease(workload(image=Image(reference=built), disk_bytes=48 * MB))
    seen = executor.start(wanted, cancelled=threading.Event())
    assert executor.layer(seen, 0) is None, "nothing to look at"
    command = "i=0; while dd if=/dev/zero of=/www/$i bs=1M count=1 && sync; do i=$((i+1)); done 2>&1; du -sm /www"
    said = btrfs.docker("exec", seen.container_id, "/bin/sh", "-c", command)
    assert "Disk quota exceeded" in said
    assert 40 <= int(said.split()[-2]) <= 56
    executor.wipe(replace(wanted), keep_volume=False)


def test_what_is_written_into_dockers_own_files_counts(docker_engine: None) -> None:
    command = [
        "run",
        "-d",
        ordinary.BUSYBOX,
        "/bin/sh",
        "-c",
        "head -c 3000000 /dev/zero >> /etc/hosts; sync; sleep 600",
    ]
    ordinary.busybox()
    name = ordinary.docker(*command)
    engine = Engine("unix:///var/run/docker.sock")
    try:
        until = time.monotonic() + 60
        while (found := layers.look(engine.call("GET", f"/containers/{name}/json"))) is None or found.bytes < 3_000_000:
            assert time.monotonic() < until, found
            time.sleep(0.2)
        detail = engine.call("GET", f"/containers/{name}/json")
        detail["HostConfig"]["StorageOpt"] = {"size": "16777216"}
        found = layers.look(detail)
        assert found is not None, "also where the kernel holds the rest"
        assert 3_000_000 <= found.bytes < 4_000_000
    finally:
        ordinary.docker("rm", "-f", name)


def test_a_layer_is_found_where_docker_does_not_say_where_it_is(docker_engine: None) -> None:
    ordinary.busybox()
    name = ordinary.docker(
        "run", "-d", ordinary.BUSYBOX, "/bin/sh", "-c", "head -c 3000000 /dev/zero > /large; sleep 600"
    )
    engine = Engine("unix:///var/run/docker.sock")
    try:
        detail = engine.call("GET", f"/containers/{name}/json")
        without = {**detail, "GraphDriver": None}  # as with containerd's image store
        until = time.monotonic() + 60
        while (
            found := layers.look({**layers.lasting(without), "State": detail["State"]})
        ) is None or found.bytes < 3_000_000:
            assert time.monotonic() < until, found
            time.sleep(0.2)
        assert found == layers.look(detail)
    finally:
        ordinary.docker("rm", "-f", name)


def test_a_docker_without_quotas_is_found_out(docker_engine: None) -> None:
    engine = Engine("unix:///var/run/docker.sock")
    info = engine.call("GET", "/info")
    found = layers.limit(engine, info)
    about = dict(info["DriverStatus"])
    if "driver-type" in about or (info["Driver"] == "overlay2" and about["Backing Filesystem"] == "extfs"):
        assert found == layers.Limit()
    assert not ordinary.docker("ps", "-aq", "--filter", f"name={layers.TRIAL}")
    began = time.monotonic()
    checks = {check.name: check for check in trials.run(engine, info)}
    assert time.monotonic() - began < 30
    assert checks[trials.LAYERS].ok, "the agent holds them itself"
    assert checks[trials.VOLUMES].ok
    assert not list((Path(info["DockerRootDir"]) / "interchain").glob(".trial*"))
