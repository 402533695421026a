"""A writable layer is a file system of its own: the kernel holds it to its size, and it comes, stays and goes with its container.

Longer than 300 lines because all of it shares one agent and looks at the same files.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import disks, layer_links, layer_trial, layers, loops, openers, sandbox, trials, volume_files, volumes
from nodes.agent.config import Config
from nodes.agent.docker_executor import DockerExecutor
from nodes.agent.engine import Engine
from nodes.agent.errors import SetupError
from nodes.agent.images import Images
from nodes.agent.protocol import Action, DesiredLease, Image, Observed, Reason
from nodes.agent.tests import leftovers
from nodes.agent.tests.conftest import ROOT, AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal

pytestmark = [pytest.mark.docker, pytest.mark.one_agent]
MB = 2**20
SERVE = "httpd -f -p 8080 -h /www"


def run(portal: FakePortal, wanted: DesiredLease) -> str:
    portal.want(wanted)
    portal.wait_for(wanted.lease_id, Observed.RUNNING, 60)
    return sandbox.container_name(wanted.lease_id)


def inside(container: str, command: str) -> str:
    words = ["docker", "exec", container, "/bin/sh", "-c", command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def file_of(portal: FakePortal, wanted: DesiredLease) -> Path:
    return _folder() / f"{sandbox.volume_name(portal.device_id, 'layer-' + wanted.lease_id)}.img"


def upper(container: str) -> Path:
    """Return where Docker keeps what a running container writes."""
    number = engine.docker("inspect", "-f", "{{.State.Pid}}", container)
    (found,) = [overlay.upper for overlay in layer_links.overlays(number) if overlay.path == "/"]
    return Path(found)


def crash(portal: FakePortal, container: str) -> None:
    """Have the app's processes end, and wait until the agent has started it again."""
    before = engine.docker("inspect", "-f", "{{.State.StartedAt}}", container)
    engine.docker("kill", container)
    portal.wait(
        lambda: (
            inside(container, "echo up") == "up\n"
            and engine.docker("inspect", "-f", "{{.State.StartedAt}}", container) != before
        ),
        60,
        "it runs again",
    )


def test_the_kernel_refuses_what_is_too_much_however_it_is_taken(agent: AgentProcess, portal: FakePortal) -> None:
    image = engine.image(SERVE, "WORKDIR /made/by/docker")
    wanted = lease(workload(image=Image(reference=image), disk_bytes=32 * MB))
    container = run(portal, wanted)
    assert inside(container, "pwd; touch here && echo ok") == "/made/by/docker\nok\n", "a folder the image lacks"
    taken = inside(container, "for i in 1 2 3 4 5 6; do fallocate -l 8000000 /tmp/$i || echo refused; done")
    assert "No space left on device" in taken
    assert taken.count("refused") >= 2
    assert inside(container, "rm /tmp/*; touch /etc/new /root-file && echo ok") == "ok\n", "it may write everywhere"
    written = inside(container, "i=0; while dd if=/dev/zero of=/etc/$i bs=1M count=1; do i=$((i+1)); done")
    assert "No space left on device" in written
    assert 24 <= int(inside(container, "du -sm /etc").split()[0]) <= 32
    assert file_of(portal, wanted).stat().st_blocks * 512 <= 32 * MB


def test_it_outlives_a_crash_and_goes_with_the_lease(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = lease(workload(image=Image(reference=engine.image(SERVE)), disk_bytes=32 * MB))
    container = run(portal, wanted)
    inside(container, "echo kept > /etc/mine; rm /www/index.html; echo new > /www/index.html")
    layer = upper(container).parent
    assert upper(container).is_symlink()
    crash(portal, container)
    assert inside(container, "cat /etc/mine /www/index.html") == "kept\nnew\n"
    portal.want(replace(wanted, action=Action.STOP))
    portal.wait_for(wanted.lease_id, Observed.STOPPED, 60)
    portal.want(replace(wanted, action=Action.WIPE))
    portal.wait_for(wanted.lease_id, Observed.WIPED, 60)
    assert leftovers.of_volumes(wanted.lease_id) == []
    portal.wait(lambda: not layer.exists(), 60, "Docker has nothing of it")


def test_a_container_whose_layer_is_not_there_runs_for_nobody(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = lease(workload(image=Image(reference=engine.image(SERVE)), disk_bytes=32 * MB))
    container = run(portal, wanted)
    inside(container, "echo lost > /etc/mine")
    agent.kill()
    engine.docker("kill", container)
    by_hand = subprocess.run(["docker", "start", container], capture_output=True, text=True, check=False)
    assert by_hand.returncode != 0, "without its limit it must not run"
    file_of(portal, wanted).unlink()
    agent.start()
    portal.wait(lambda: inside(container, "cat /www/index.html") == "hello from a device\n", 60, "it begins anew")
    assert "No such file" in inside(container, "cat /etc/mine")
    assert inside(container, "fallocate -l 30000000 /tmp/a; fallocate -l 30000000 /tmp/b").count("No space left") >= 1


def test_a_file_system_that_lost_what_was_in_it_begins_anew(agent: AgentProcess, portal: FakePortal) -> None:
    """As a power failure leaves one that was not written out: sound, and empty."""
    wanted = lease(workload(image=Image(reference=engine.image(SERVE)), disk_bytes=32 * MB))
    container = run(portal, wanted)
    agent.kill()
    engine.docker("kill", container)
    file_of(portal, wanted).unlink()
    disks.make(file_of(portal, wanted), 32 * MB, lasting=False)
    agent.start()
    portal.wait(lambda: inside(container, "cat /www/index.html") == "hello from a device\n", 60, "it begins anew")
    assert inside(container, "fallocate -l 30000000 /tmp/a; fallocate -l 30000000 /tmp/b").count("No space left") >= 1


def test_a_layer_that_cannot_be_mounted_for_a_while_is_waited_for_and_kept(
    agent: AgentProcess, portal: FakePortal
) -> None:
    wanted = lease(workload(image=Image(reference=engine.image(SERVE)), disk_bytes=32 * MB))
    container = run(portal, wanted)
    inside(container, "echo kept > /etc/mine")
    agent.kill()
    engine.docker("kill", container)
    image = file_of(portal, wanted)
    portal.wait(lambda: not loops.attached(image), 60, "the kernel lets go of it")
    device, keep = loops.attach(image)
    alone = os.open(device, os.O_RDWR | os.O_EXCL)  # who mounts it meanwhile is told that it is busy
    try:
        agent.start()
        portal.wait(
            lambda: "busy" in getattr(portal.status(wanted.lease_id), "message", ""), 60, "it says why it does not run"
        )
    finally:
        os.close(alone)
        os.close(keep)
    portal.wait(lambda: inside(container, "cat /etc/mine") == "kept\n", 60, "it goes on with what it wrote")


def test_a_layer_whose_file_is_damaged_begins_anew(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = lease(workload(image=Image(reference=engine.image(SERVE)), disk_bytes=32 * MB))
    container = run(portal, wanted)
    agent.kill()
    engine.docker("kill", container)
    image = file_of(portal, wanted)
    portal.wait(lambda: not loops.attached(image), 60, "the kernel lets go of it")
    with image.open("r+b") as file:  # a sound superblock, and nothing sound behind it
        file.seek(2048)
        file.write(b"\xff" * 65536)
    agent.start()
    portal.wait(lambda: inside(container, "cat /www/index.html") == "hello from a device\n", 60, "it begins anew")


def test_a_container_that_is_mounted_is_not_joined(docker_engine: None, tmp_path: Path) -> None:
    """It would go on with the folder it has, without a limit."""
    docker = Engine("unix:///var/run/docker.sock")
    container = engine.docker("create", engine.image(SERVE))
    try:
        detail = docker.call("GET", f"/containers/{container}/json")
        with layer_links.mounted(detail, docker), pytest.raises(SetupError, match="mounted"):
            layer_links.join(detail, str(tmp_path), docker)
        assert not layer_links.is_joined(detail, docker)
    finally:
        engine.docker("rm", "-f", container)


def test_each_has_its_own_size_whatever_was_kept_ready(agent: AgentProcess, portal: FakePortal) -> None:
    """Two sizes one after the other, the second of them three times: what is kept ready for it is of the size before, then of its own."""
    sizes, leases = {}, []
    for size in (32, 24, 24, 24):
        wanted = lease(workload(image=Image(reference=engine.image(SERVE)), disk_bytes=size * MB))
        leases.append(wanted)
        portal.want(*leases)
        portal.wait_for(wanted.lease_id, Observed.RUNNING, 60)
        container = sandbox.container_name(wanted.lease_id)
        assert inside(container, "ls /mine") == "ls: /mine: No such file or directory\n", "nobody had it before"
        inside(container, "echo mine > /mine")
        sizes[container] = (size, file_of(portal, wanted).stat().st_size)
        portal.wait(lambda: _spare_is_ready(portal), 60, "what the next start takes")
    assert len({file_of(portal, one).stat().st_ino for one in leases}) == len(leases), "no two have one file"
    for container, (size, made) in sizes.items():
        assert made == size * MB
        total = int(inside(container, "df -k / | tail -n 1").split()[1]) * 1024
        assert 0.7 * size * MB < total <= size * MB
        assert inside(container, "ls -d /mine; exit 0") == "/mine\n"


def test_the_next_start_makes_its_own_where_what_was_ready_is_gone(agent: AgentProcess, portal: FakePortal) -> None:
    """Somebody prunes Docker's containers and removes the spare file; the layer is held all the same."""
    run(portal, lease(workload(image=Image(reference=engine.image(SERVE)), disk_bytes=32 * MB)))
    portal.wait(lambda: _spare_is_ready(portal), 60, "what the next start takes")
    engine.docker("rm", "-f", "-v", *_openers(portal))
    (spare,) = _spares(portal)
    spare.unlink()
    container = run(portal, lease(workload(image=Image(reference=engine.image(SERVE)), disk_bytes=32 * MB)))
    assert "No space left on device" in inside(container, "fallocate -l 30000000 /a; fallocate -l 30000000 /b")
    portal.wait(lambda: _spare_is_ready(portal), 60, "ready for another one")
    portal.wait(lambda: len(_openers(portal)) == openers.SPARE, 60, "openers as before")


def test_a_layer_that_never_got_its_container_is_removed_with_its_lease(
    agent: AgentProcess, portal: FakePortal
) -> None:
    image = engine.image(SERVE, "RUN mkdir -p /cache && dd if=/dev/urandom of=/cache/f bs=1M count=40", "VOLUME /cache")
    wanted = lease(workload(image=Image(reference=image), disk_bytes=16 * MB))
    portal.want(wanted)
    status = portal.wait_for(wanted.lease_id, Observed.FAILED, 60)
    assert status.reason is Reason.OUT_OF_DISK
    assert "does not fit in the 16 MiB" in status.message
    assert status.restarts == 0
    portal.wait(lambda: not file_of(portal, wanted).exists(), 60, "its layer is gone")
    portal.want()


def _spare_is_ready(portal: FakePortal) -> bool:
    links = _folder().glob(sandbox.volume_name(portal.device_id, f"{volumes.OPENER_PREFIX}*"))
    return bool(_openers(portal)) and bool(_spares(portal)) and not list(links)


def _openers(portal: FakePortal) -> "list[str]":
    label = [
        "--filter",
        f"label=io.interchain.device={portal.device_id}",
        "--filter",
        "label=io.interchain.opener",
    ]
    return engine.docker("ps", "-aq", *label).split()


def _spares(portal: FakePortal) -> "list[Path]":
    return list(_folder().glob(f"{_prefix(portal)}spare-*.img"))


def _prefix(portal: FakePortal) -> str:
    return sandbox.volume_name(portal.device_id, "layer-")


def _folder() -> Path:
    return Path(engine.docker("info", "-f", "{{.DockerRootDir}}")) / "interchain"


def test_a_trial_whose_agent_was_killed_leaves_nothing_after_the_next(docker_engine: None) -> None:
    docker = Engine("unix:///var/run/docker.sock")
    info = docker.call("GET", "/info")
    program = (
        "import os, signal; from nodes.agent import layer_trial, engine; from pathlib import Path\n"
        "layer_trial._mounted_bytes = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "docker = engine.Engine('unix:///var/run/docker.sock'); info = docker.call('GET', '/info')\n"
        "layer_trial.why_not(Path(info['DockerRootDir']) / 'interchain', docker, info)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == -9
    named = ["--filter", "label=io.interchain.trial=layer"]
    assert len(engine.docker("ps", "-aq", *named).split()) == 2
    assert leftovers.of_volumes(layer_trial.NAME, seconds=0)
    assert not layer_trial.why_not(_folder(), docker, info)
    assert not engine.docker("ps", "-aq", *named).split()
    assert not leftovers.of_volumes(layer_trial.NAME)


def test_what_an_agent_that_was_killed_left_goes_at_its_next_start(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = lease(workload(image=Image(reference=engine.image(SERVE)), disk_bytes=32 * MB))
    container = run(portal, wanted)
    agent.kill()
    engine.docker("rm", "-f", "-v", container)
    assert file_of(portal, wanted).exists()
    portal.want()
    agent.start()
    portal.wait(lambda: leftovers.of_volumes(wanted.lease_id, seconds=0) == [], 60, "it is gone")


def test_an_engine_of_another_kind_is_found_out(docker_engine: None) -> None:
    docker = Engine("unix:///var/run/docker.sock")
    info = docker.call("GET", "/info")
    folder = Path(info["DockerRootDir"]) / "interchain"
    assert not layer_trial.why_not(folder, docker, info)
    assert "btrfs" in layer_trial.why_not(folder, docker, {**info, "Driver": "btrfs"})
    assert not leftovers.of_volumes(layer_trial.NAME)


def test_what_the_doctor_tried_is_not_tried_again_by_who_starts_apps(
    docker_engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker, name = Engine("unix:///var/run/docker.sock"), "tried-once"
    tried = trials.Trials(docker, device_id=name)
    checks = {check.name: check for check in trials.run(docker, docker.call("GET", "/info"), tried=tried)}
    assert checks[trials.LAYERS].ok
    again: list[str] = []
    monkeypatch.setattr(layer_trial, "why_not", lambda *_: again.append("the agent's own") or "not again")
    monkeypatch.setattr(layers, "limit", lambda *_, **__: again.append("Docker's") or layers.Limit())
    config = Config(name, "http://127.0.0.1", "ws://127.0.0.1", 10**9, subnet_pool="10.230.0.0/16")
    images = Images(docker, fetch=lambda *_: None, folder=tmp_path)
    try:
        executor = DockerExecutor(config, engine=docker, images=images, tried=tried)
        executor.prepare()
        assert again == []
        assert executor._bounded.possible.known(), "it goes by what was found"
        other = DockerExecutor(config, engine=docker, images=images)
        other.prepare()
        assert again == ["Docker's", "the agent's own"], "who was told nothing finds out"
        assert not other._bounded.possible.known()
    finally:
        engine.remove_labelled(f"io.interchain.device={name}")
        volume_files.erase_all(name, docker)
