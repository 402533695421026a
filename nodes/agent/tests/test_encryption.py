"""Apps' data that a stolen disk does not give away, with the kernel's own encryption, real containers and the whole agent."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import encryption, encryption_trial, fscrypt, loops, sandbox, volume_files
from nodes.agent.config import Config
from nodes.agent.docker_executor import DockerExecutor
from nodes.agent.encryption import Keys
from nodes.agent.engine import Engine
from nodes.agent.images import Images
from nodes.agent.protocol import Action, DesiredLease, Observed, Reason
from nodes.agent.tests.conftest import AgentProcess, lease
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.test_sandbox_holds import inside
from nodes.agent.tests.test_volumes import image_of, running, with_volume

pytestmark = [pytest.mark.docker, pytest.mark.one_agent]
TEXT = "the combination of the safe is 12345 "


def key() -> str:
    return base64.urlsafe_b64encode(os.urandom(fscrypt.KEY_BYTES)).decode()


def next_of(before: DesiredLease, **changes: object) -> DesiredLease:
    again = replace(before, lease_id=lease(before.workload).lease_id, generation=before.generation + 1)
    return replace(again, **changes)  # type: ignore[arg-type]


def stopped(portal: FakePortal, wanted: DesiredLease) -> None:
    portal.want(replace(wanted, action=Action.STOP))
    portal.wait_for(wanted.lease_id, Observed.STOPPED)


def failed(portal: FakePortal, wanted: DesiredLease) -> str:
    """Want a lease that cannot start; returns what the agent says of it."""
    portal.want(wanted)
    told: list[str] = []

    def said() -> bool:
        statuses = portal.reports[-1][1].statuses
        told[:] = [one.message for one in statuses if one.lease_id == wanted.lease_id and one.reason]
        return bool(told)

    portal.wait(said, 30, "the agent says why it does not start")
    return told[0]


@pytest.fixture(autouse=True)
def _kernel_can(portal: FakePortal) -> None:
    root = Path(engine.docker("info", "-f", "{{.DockerRootDir}}")) / volume_files.FOLDER
    if why := encryption_trial.why_not(root, Engine("unix:///var/run/docker.sock")):
        pytest.skip(f"data cannot be encrypted here: {why}")


def test_nothing_an_app_writes_can_be_read_from_the_disk(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = replace(with_volume(), volume_key=key())
    container = running(portal, wanted)
    image = image_of(portal, wanted)
    assert next(one.encrypted for one in portal.reports[-1][1].statuses if one.lease_id == wanted.lease_id)
    assert inside(container, "ls -A /data") == (0, "")
    assert inside(container, f"for i in $(seq 2000); do echo '{TEXT}'; done > /data/hidden-name && sync")[0] == 0
    assert inside(container, "head -n 1 /data/hidden-name") == (0, f"{TEXT}\n")
    stopped(portal, wanted)
    portal.wait(lambda: not loops.attached(image), 20, "the kernel forgets the key with the last mount")
    on_disk = image.read_bytes()
    assert TEXT.encode() not in on_disk
    assert b"hidden-name" not in on_disk
    for path in (path for path in agent.home.parent.rglob("*") if path.is_file()):
        assert wanted.volume_key not in path.read_bytes().decode(errors="replace"), f"the key is in {path}"
    again = next_of(wanted)
    portal.want(replace(wanted, action=Action.WIPE), again)
    portal.wait_for(again.lease_id, Observed.RUNNING)
    found = sandbox.container_name(again.lease_id)
    assert inside(found, "head -n 1 /data/hidden-name") == (0, f"{TEXT}\n")
    portal.want(replace(again, action=Action.WIPE))
    portal.wait_for(again.lease_id, Observed.WIPED)
    assert not list(image.parent.glob(f"{image.stem}*"))
    assert image.stem not in engine.docker("volume", "ls", "-q")


def test_data_does_not_open_without_its_key_or_with_another(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = replace(with_volume(), volume_key=key())
    assert inside(running(portal, wanted), "echo kept > /data/file && sync")[0] == 0
    stopped(portal, wanted)
    assert "its key comes from the portal" in failed(portal, next_of(wanted, volume_key=""))
    assert "another key" in failed(portal, next_of(wanted, volume_key=key(), generation=3))
    right = next_of(wanted, generation=4)
    assert inside(running(portal, right), "cat /data/file") == (0, "kept\n")


def test_a_release_that_wants_it_does_not_run_on_data_without(agent: AgentProcess, portal: FakePortal) -> None:
    plain = with_volume()
    running(portal, plain)
    stopped(portal, plain)
    wish = replace(plain.workload, encrypted=True)
    assert "made without" in failed(portal, replace(next_of(plain), workload=wish, volume_key=key()))
    new = replace(with_volume(encrypted=True))
    assert "cannot do that" in failed(portal, new)  # no key came with it


def test_a_killed_app_is_back_with_its_data_and_a_restarted_agent_leaves_it_alone(
    agent: AgentProcess, portal: FakePortal
) -> None:
    wanted = replace(with_volume(), volume_key=key())
    container = running(portal, wanted)
    assert inside(container, "echo kept > /data/file && sync")[0] == 0
    starts = engine.docker("inspect", "-f", "{{.State.StartedAt}}", container)
    engine.docker("kill", container)
    portal.wait(lambda: _started(container) not in ("", starts), 60, "the agent starts it again")
    portal.wait_for(wanted.lease_id, Observed.RUNNING)
    assert inside(container, "cat /data/file") == (0, "kept\n")
    running_since, known = _started(container), len(portal.reports)
    agent.kill()
    agent.start()  # without the key, until the portal has answered
    portal.wait(lambda: len(portal.reports) >= known + 3, 60, "it looks at what runs, more than once")
    assert _started(container) == running_since, "the app was not started again"
    status = portal.status(wanted.lease_id)
    assert status is not None
    assert (status.observed, status.reason, status.encrypted) == (Observed.RUNNING, Reason.NONE, True)
    assert inside(container, "cat /data/file; echo more >> /data/file; cat /data/file") == (0, "kept\nkept\nmore\n")


def test_keys_that_are_none_are_not_taken() -> None:
    keys = Keys()
    keys.know({"good": key(), "short": "YQ==", "odd": "not base64!"})
    assert keys.of("good") is not None
    assert keys.of("short") is keys.of("odd") is keys.of("unknown") is None
    keys.know({})
    assert keys.of("good") is None


def test_a_volume_unmounted_behind_its_back_is_never_an_empty_one(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = with_volume()
    container = running(portal, wanted)
    assert inside(container, "echo kept > /data/file && sync")[0] == 0
    name = sandbox.volume_name(portal.device_id, wanted.workload.id)
    mounted = engine.docker("volume", "inspect", "-f", "{{.Mountpoint}}", name)
    subprocess.run(["umount", "-l", mounted], check=True)
    assert not os.path.ismount(mounted)
    starts = engine.docker("inspect", "-f", "{{.State.StartedAt}}", container)
    engine.docker("kill", container)
    portal.wait(lambda: _started(container) not in ("", starts), 60, "the agent starts it again")
    portal.wait_for(wanted.lease_id, Observed.RUNNING)
    assert inside(container, "cat /data/file") == (0, "kept\n")


def test_a_container_an_older_agent_bound_elsewhere_is_made_anew_with_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agents before bound the folder of Docker's own mount, which is not there any more."""
    socket = Engine("unix:///var/run/docker.sock")
    config = Config("bound-elsewhere", "http://127.0.0.1", "ws://127.0.0.1", 10**9, subnet_pool="10.231.0.0/16")
    executor = DockerExecutor(config, engine=socket, images=Images(socket, fetch=lambda *_: None, folder=tmp_path))
    executor.prepare()
    wanted = replace(with_volume(), volume_key=key())
    executor.know_keys({wanted.workload.id: wanted.volume_key})
    bind: Callable[..., str] = encryption.opened_volume
    try:
        with monkeypatch.context() as older:
            older.setattr(
                encryption, "opened_volume", lambda name, folder, *more: bind(name, os.path.realpath(folder), *more)
            )
            before = executor.start(wanted, cancelled=threading.Event())
        container = sandbox.container_name(wanted.lease_id)
        assert inside(container, "echo kept > /data/file && sync")[0] == 0
        executor.stop(wanted.lease_id)
        after = executor.start(wanted, cancelled=threading.Event())
        assert after.container_id != before.container_id
        assert inside(container, "cat /data/file") == (0, "kept\n")
        executor.stop(wanted.lease_id)
        assert executor.start(wanted, cancelled=threading.Event()).container_id == after.container_id, "as it is"
        assert inside(container, "cat /data/file") == (0, "kept\n")
    finally:
        engine.remove_labelled("io.interchain.device=bound-elsewhere")
        volume_files.erase_all("bound-elsewhere", socket)


def _started(container: str) -> str:
    done = subprocess.run(
        ["docker", "inspect", "-f", "{{if .State.Running}}{{.State.StartedAt}}{{end}}", container],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip()
