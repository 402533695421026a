"""A volume that is opened while no container of its app has it: to be copied, to be filled, or to be unlocked."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import loops, openers, sandbox
from nodes.agent.config import Config
from nodes.agent.engine import Engine, EngineError
from nodes.agent.errors import AgentError
from nodes.agent.protocol import Action, Observed
from nodes.agent.tests.conftest import AgentProcess, lease
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.test_sandbox_holds import inside
from nodes.agent.tests.test_volumes import image_of, running, with_volume
from nodes.agent.volumes import Volumes

pytestmark = [pytest.mark.docker, pytest.mark.one_agent]


def test_a_volume_can_be_looked_into_whether_its_app_runs_or_not(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = with_volume()
    inside(running(portal, wanted), "echo kept > /data/file && sync")
    socket = Engine("unix:///var/run/docker.sock")
    own = Volumes(Config(portal.device_id, "http://127.0.0.1", "ws://127.0.0.1", 10**9), socket)
    own.prepare(engine.docker("info", "-f", "{{.DockerRootDir}}"))
    with own.opened(wanted.workload.id) as path, own.opened(wanted.workload.id) as beside:
        assert (Path(path) / "file").read_text() == "kept\n"
        (Path(beside) / "file").write_text("changed\n")
        assert (Path(path) / "file").read_text() == "changed\n", "it is one file system, however often it is mounted"
        (Path(path) / "file").write_text("kept\n")
    assert inside(sandbox.container_name(wanted.lease_id), "cat /data/file")[1] == "kept\n"
    portal.want(replace(wanted, action=Action.STOP))
    portal.wait_for(wanted.lease_id, Observed.STOPPED)
    with own.opened(wanted.workload.id) as path:
        assert (Path(path) / "file").read_text() == "kept\n"
        (Path(path) / "brought").write_text("brought\n")
    assert not os.path.ismount(path)
    assert not loops.attached(image_of(portal, wanted))
    portal.want(wanted)
    portal.wait_for(wanted.lease_id, Observed.RUNNING)
    assert inside(sandbox.container_name(wanted.lease_id), "cat /data/brought")[1] == "brought\n"
    with pytest.raises(AgentError), own.opened("11111111-1111-1111-1111-111111111111"):
        pass


OPEN_IT = """
import sys, time
from nodes.agent.config import Config
from nodes.agent.engine import Engine
from nodes.agent.volumes import Volumes
volumes = Volumes(Config(sys.argv[1], "http://127.0.0.1", "ws://127.0.0.1", 10**9), Engine("unix:///var/run/docker.sock"))
volumes.prepare(sys.argv[2])
with volumes.opened(sys.argv[3]) as path:
    print(path, flush=True)
    time.sleep(600)
"""


def test_whoever_is_killed_while_it_has_a_volume_open_leaves_it_closed(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = with_volume()
    running(portal, wanted)
    portal.want(replace(wanted, action=Action.STOP))
    portal.wait_for(wanted.lease_id, Observed.STOPPED)
    root = engine.docker("info", "-f", "{{.DockerRootDir}}")
    command = [sys.executable, "-c", OPEN_IT, portal.device_id, root, wanted.workload.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as opener:
        assert opener.stdout is not None
        path = opener.stdout.readline().strip()
        assert os.path.ismount(path)
        opener.kill()
    portal.wait(lambda: not os.path.ismount(path) and not loops.attached(image_of(portal, wanted)), 60, "closed")
    portal.want(next_lease := replace(wanted, lease_id=lease(wanted.workload).lease_id, generation=2))
    portal.wait_for(next_lease.lease_id, Observed.RUNNING)


def test_a_volume_docker_cannot_mount_is_not_taken_for_an_empty_one(
    agent: AgentProcess, portal: FakePortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = with_volume()
    running(portal, wanted)
    portal.want(replace(wanted, action=Action.STOP))
    portal.wait_for(wanted.lease_id, Observed.STOPPED)
    own = Volumes(
        Config(portal.device_id, "http://127.0.0.1", "ws://127.0.0.1", 10**9), Engine("unix:///var/run/docker.sock")
    )
    own.prepare(engine.docker("info", "-f", "{{.DockerRootDir}}"))
    monkeypatch.setattr(openers, "MOUNT_SECONDS", 0.5)
    with image_of(portal, wanted).open("r+b") as file:
        file.seek(1024)
        file.write(bytes(1024))  # its superblock
    with pytest.raises(AgentError, match="error while mounting volume"), own.opened(wanted.workload.id):
        pass


def test_a_call_the_engine_refuses_says_why_when_its_body_ends() -> None:
    socket = Engine("unix:///var/run/docker.sock")
    sending = socket.unfinished("PUT", "/containers/nobody/archive", query={"path": "/"})
    with sending as archive, pytest.raises(EngineError, match="No such container"):
        archive.end()
