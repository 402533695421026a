"""The one command of a device's page, run as its owner would run it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from nodes.agent import packaging, service
from nodes.agent.tests.portal import FakePortal

pytestmark = pytest.mark.docker


def install(portal: FakePortal, folder: Path, token: str) -> subprocess.CompletedProcess[str]:
    script = Path(packaging.__file__).with_name("install.sh").read_text()
    script = script.replace("__PORTAL_URL__", portal.url).replace("__TOKEN__", token)
    environment = {**os.environ, "INTERCHAIN_NODE_DIR": str(folder), "INTERCHAIN_NODE_START": "no"}
    environment["XDG_CACHE_HOME"] = str(folder.parent / "cache")  # where pip would keep what it fetched
    for name in ("PYTHONPATH", "PIP_CACHE_DIR", "PIP_NO_CACHE_DIR"):
        environment.pop(name, None)
    return subprocess.run(["sh"], input=script, capture_output=True, text=True, env=environment, cwd="/", check=False)


def test_installs_enrols_may_be_repeated_and_leaves_nothing_when_it_goes(
    portal: FakePortal, tmp_path: Path, docker_engine: None
) -> None:
    folder = tmp_path / "node"
    refused = install(portal, folder, "used-up")
    assert refused.returncode != 0
    assert "not one of ours" in refused.stderr
    done = install(portal, folder, "good")
    assert done.returncode == 0, done.stderr
    assert "Enrolled as device" in done.stdout
    assert portal.enrolment is not None
    said = subprocess.run(
        [folder / "current/bin/interchain-node", "status", "--home", folder / "home"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert portal.device_id in said.stdout, said.stderr
    again = install(portal, folder, "good")
    assert "Already enrolled" in again.stdout
    gone = subprocess.run(
        [folder / "current/bin/interchain-node", "uninstall", "--home", folder / "home", "--yes"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert portal.left
    assert list(tmp_path.rglob("*")) == []
    assert not service.LINK.is_symlink() or str(folder) not in os.readlink(service.LINK)
