"""What an uninstall takes away: apps' volumes with all that holds them, firewall rules, in a network of their own, images and the service's files."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interchain_site.testing import docker
from nodes.agent import bounded_layers, holders, loops, sandbox, service, uninstall, volume_files
from nodes.agent.config import Home
from nodes.agent.images import LOADED, TAG
from nodes.agent.protocol import Action, Image, Observed
from nodes.agent.tests import leftovers
from nodes.agent.tests.conftest import AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
from nodes.agent import firewall, uninstall
rules = lambda: firewall._run("iptables", "-S")
before = rules()
firewall.Firewall().ensure()
assert firewall.FORWARD_CHAIN in rules() and firewall.INPUT_CHAIN in rules()
uninstall._remove_rules()
assert rules() == before, rules()
uninstall._remove_rules()
"""


@pytest.mark.docker
def test_no_rule_is_left() -> None:
    setup = "iptables -N DOCKER-USER && iptables -A FORWARD -j DOCKER-USER && iptables -A DOCKER-USER -j RETURN"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", f'{setup} && exec "$0" -c "$1"', sys.executable, SCRIPT],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.docker
def test_of_volumes_no_mount_no_loop_device_and_no_file_is_left(agent: AgentProcess, portal: FakePortal) -> None:
    """One app runs, one has stopped, one was killed with its agent; another device's data stays."""
    leases = [
        lease(workload(image=Image(reference=docker.image("httpd -f -p 8080 -h /www")), volume_path="/data"))
        for _ in range(3)
    ]
    portal.want(*leases)
    for one in leases:
        portal.wait_for(one.lease_id, Observed.RUNNING, 60)
    portal.want(leases[0], replace(leases[1], action=Action.STOP), leases[2])
    portal.wait_for(leases[1].lease_id, Observed.STOPPED, 60)
    folder = Path(docker.docker("info", "-f", "{{.DockerRootDir}}")) / volume_files.FOLDER
    stopped = folder / f"{sandbox.volume_name(portal.device_id, bounded_layers.PREFIX + leases[1].lease_id)}.img"
    portal.wait(lambda: not stopped.exists(), 60, "what has stopped has no layer")
    files = sorted(folder.glob(f"{sandbox.volume_name(portal.device_id, '')}*.img"))
    layers = [file for file in files if bounded_layers.PREFIX in file.name]
    taken = [
        file for file in layers if bounded_layers.SPARE not in file.name
    ]  # beside what is ready for the next start
    assert (len(files) - len(layers), len(taken)) == (3, 2), "what has stopped has no layer"
    portal.wait(lambda: sum(bool(loops.attached(file)) for file in files if file.exists()) == 4, 60, "what runs")
    agent.kill()
    docker.docker("kill", sandbox.container_name(leases[2].lease_id))
    theirs = folder / f"{sandbox.volume_name('another-device', leases[0].workload.id)}.img"
    theirs.write_bytes(bytes(4096))
    try:
        done = agent.cli("uninstall", "--home", str(agent.home), "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert theirs.exists()
    finally:
        theirs.unlink(missing_ok=True)
    assert leftovers.of_volumes(sandbox.volume_name(portal.device_id, "")) == []
    assert not agent.home.exists()


class FakeEngine:
    """Remembers what was removed."""

    def __init__(self, images: "list[str]") -> None:
        self.images, self.removed = images, []  # type: ignore[var-annotated]

    def call(self, method: str, path: str, **_: Any) -> Any:
        if method == "DELETE":
            self.removed.append(path.removeprefix("/images/"))
        return [{"RepoTags": [name]} for name in self.images]


@pytest.mark.parametrize("alone", [True, False])
def test_images_that_came_with_us_go_and_others_stay(tmp_path: Path, alone: bool) -> None:
    home = Home(tmp_path / "home").create()
    (home.archives / LOADED).write_text(f"registry.example/app@sha256:aa\n{TAG}:bb\n")
    engine = FakeEngine([f"{TAG}:cc", f"{holders.REPOSITORY}:1"])
    uninstall._remove_images(engine, uninstall._image_names(home), alone=alone)  # type: ignore[arg-type]
    mine = {"registry.example/app@sha256:aa", f"{TAG}:bb"}
    shared = {f"{TAG}:cc", f"{holders.REPOSITORY}:1"}
    assert set(engine.removed) == (mine | shared if alone else mine)


@pytest.mark.docker  # where the suite's packages are, systemd's own checker among them
def test_the_service_is_well_formed_and_hardened(tmp_path: Path) -> None:
    (tmp_path / "launch").write_text("#!/bin/sh\n")
    (tmp_path / "launch").chmod(0o755)
    path = tmp_path / "interchain-node.service"
    path.write_text(service.unit(tmp_path, portal="https://portal.example"))
    (tmp_path / "interchain-node-sleep.service").write_text(service.sleep_unit())
    for name in ("interchain-node.service", "interchain-node-sleep.service"):
        verified = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", tmp_path / name], capture_output=True, text=True, check=False
        )
        ours = [line for line in verified.stderr.splitlines() if "interchain" in line and "not found" not in line]
        assert not ours, ours
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=45", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert rated.returncode == 0, rated.stdout[-2000:]


def test_the_launcher_is_a_shell_script_that_parses(tmp_path: Path) -> None:
    assert subprocess.run(["sh", "-n", service.write_launcher(tmp_path)], check=False).returncode == 0
