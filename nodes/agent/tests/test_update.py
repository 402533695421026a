"""One installed agent, from the one command to its removal: it updates itself, goes back from a version that does not come up,
refuses what is not signed, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import keys, packaging, process_settings, protocol, signing, update
from nodes.agent.keys import DeviceKey
from nodes.agent.protocol import Image, Observed
from nodes.agent.tests.conftest import lease, workload
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.test_install import install
from nodes.agent.tests.test_life_of_a_lease import SERVE, get

pytestmark = pytest.mark.docker
UP_SECONDS = 45  # on a busy machine


@pytest.fixture
def release_key(tmp_path: Path) -> DeviceKey:
    return keys.create(tmp_path / "release.key")


@pytest.fixture
def base(portal: FakePortal, tmp_path: Path, docker_engine: None, release_key: DeviceKey) -> "Iterator[Path]":
    """A device installed by the one command, its launcher running."""
    portal.release_key = release_key.public_x
    folder = tmp_path / "node"
    done = install(portal, folder, "good")
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "INTERCHAIN_UP_SECONDS": str(UP_SECONDS)}
    environment.pop("PYTHONPATH", None)
    with (tmp_path / "agent.log").open("ab") as log:
        launcher = subprocess.Popen([folder / "launch"], stdout=log, stderr=log, env=environment)
    try:
        portal.wait(lambda: portal.linked, 20, "the installed agent")
        yield folder
    finally:
        launcher.terminate()
        launcher.wait(30)
        engine.remove_labelled(f"io.interchain.device={portal.device_id}")


def publish(portal: FakePortal, signer: DeviceKey, version: str, *, wheel: bytes = b"") -> None:
    wheel = wheel or packaging.build_archive(version)
    portal.release_files[hashlib.sha256(wheel).hexdigest()] = wheel
    portal.offer = protocol.ReleaseOffer(signing.manifest(wheel, version, signer))
    portal.want(*portal.desired.leases, release=version)


def broken(version: str) -> bytes:
    """A version that passes its self-test and then never reports."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packaging.build_archive(version))) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "nodes/agent/courier.py":
                data = data.replace(
                    b"    def round(self) -> None:", b"    def round(self) -> None:\n        return\n", 1
                )
            if not name.endswith("RECORD"):
                new.writestr(name, data)
            else:
                new.writestr(name, b"")
    return out.getvalue()


def version_told(portal: FakePortal) -> str:
    return portal.reports[-1][1].agent_version if portal.reports else ""


def test_from_the_one_command_to_nothing_left(
    base: Path, portal: FakePortal, release_key: DeviceKey, tmp_path: Path
) -> None:
    node = base / "current" / "bin" / "interchain-node"
    wanted = lease(workload(image=Image(reference=engine.image(SERVE)), volume_path="/data"))
    portal.want(wanted)
    status = portal.wait_for(wanted.lease_id, Observed.RUNNING)
    portal.wait(lambda: portal.reports[-1][1].can_update, 10, "an agent that can update itself")

    # 1. A signed version takes its place; the app never stops.
    publish(portal, release_key, "0.9.0")
    portal.wait(lambda: version_told(portal) == "0.9.0", 120, "the new version's report")
    assert (1001, "update") in portal.goodbyes
    assert "hello" in get(status.host_port)
    assert os.readlink(base / "current") == "versions/0.9.0"
    portal.wait(lambda: not (base / "update/trying").exists(), 60, "the new version to have come up")
    has = Path(f"/proc/{(base / 'home/lock').read_text()}/environ").read_text().split("\0")
    assert {f"{name}={value}" for name, value in process_settings.SETTINGS.items()} <= set(has), "no launcher's doing"

    # 2. What the release key did not sign changes nothing.
    thief = keys.create(tmp_path / "thief.key")
    publish(portal, thief, "0.9.1")
    time.sleep(6)
    assert not (base / "versions/0.9.1").exists()
    assert "not signed by the release key" in (tmp_path / "agent.log").read_text()

    # 3. A version that does not come up gives its place back, and is not tried again.
    subprocess.run([node, "status", "--home", base / "home"], check=True, capture_output=True)
    (pid,) = [int((base / "home/lock").read_text())]
    os.kill(pid, 15)  # begins a new attempt at once: the refusal above made it wait for an hour
    portal.wait(lambda: portal.linked and int((base / "home/lock").read_text() or pid) != pid, 40, "the next start")
    publish(portal, release_key, "0.9.2", wheel=broken("0.9.2"))
    portal.wait(lambda: "0.9.2 did not come up" in portal.reports[-1][1].update_failure, 150, "the way back")
    assert version_told(portal) == "0.9.0"
    assert os.readlink(base / "current") == "versions/0.9.0"
    assert "hello" in get(status.host_port)
    time.sleep(4)
    assert os.readlink(base / "current") == "versions/0.9.0"

    # 4. Uninstalled, nothing of this device is left (what devices share is test_uninstall.py's).
    refused = subprocess.run(
        [node, "uninstall", "--home", base / "home"], input="no\n", capture_output=True, text=True, check=False
    )
    assert (refused.returncode, "data here. It is deleted" in refused.stdout) == (1, True)
    gone = subprocess.run(
        [node, "uninstall", "--home", base / "home", "--yes"], capture_output=True, text=True, check=False
    )
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert portal.left
    chosen = f"label=io.interchain.device={portal.device_id}"
    for listing in (["ps", "-aq"], ["network", "ls", "-q"], ["volume", "ls", "-q"]):
        assert engine.docker(*listing, "--filter", chosen) == ""
    assert not base.exists()


@pytest.mark.parametrize(
    ("version", "than", "is_newer"),
    [("0.10.0", "0.9.9", True), ("1", "0.9", True), ("0.9", "0.9", False), ("x", "0", False)],
)
def test_versions_are_numbers(version: str, than: str, is_newer: bool) -> None:
    assert update.newer(version, than) is is_newer
