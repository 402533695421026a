"""What could not be tried is neither yes nor no: no volume and no layer is begun without its limit meanwhile. Real Docker, loop devices and a full disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import layer_trial, sandbox, trials, volume_files, volume_trial
from nodes.agent.abilities import is_passing
from nodes.agent.config import Config
from nodes.agent.diagnosis import DISK_FULL
from nodes.agent.docker_executor import DockerExecutor
from nodes.agent.engine import Engine, EngineDown, EngineError
from nodes.agent.errors import AgentError, LeaseError, SetupError
from nodes.agent.images import Images
from nodes.agent.protocol import Reason
from nodes.agent.tests import leftovers
from nodes.agent.tests.conftest import ROOT, workload
from nodes.agent.tests.sized_disk import disk
from nodes.agent.trial_turns import Untried
from nodes.agent.volumes import Volumes

SOCKET = "unix:///var/run/docker.sock"
NAME = "abilities"
CONFIG = Config(NAME, "http://127.0.0.1", "ws://127.0.0.1", 10**9, subnet_pool="10.231.0.0/16")


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(5, "Input/output error"), True),
        (OSError(1, "Operation not permitted"), False),
        (FileNotFoundError(2, "No such file or directory"), False),
        (SetupError("mkfs.ext4 failed: mkfs.ext4: No space left on device while writing out"), True),
        (SetupError("mkfs.ext4 failed: bad option"), False),
        (EngineDown("No Engine answers."), True),
        (EngineError(500, "failed to mount: no space left on device"), True),
        (EngineError(500, "failed to mount: context deadline exceeded"), True),
        (EngineError(404, "No such container"), True),
        (EngineError(500, "failed to mount overlay: invalid argument"), False),
        (AgentError("Docker has mounted the volume where this agent cannot see it."), False),
    ],
)
def test_what_passes_by_itself_is_told_from_what_a_device_cannot(error: Exception, passing: bool) -> None:
    assert is_passing(error) is passing


@pytest.mark.docker
def test_a_volume_waits_while_the_disk_is_full_and_is_held_to_its_size_after(
    docker_engine: None, tmp_path: Path
) -> None:
    own, app = Volumes(CONFIG, Engine(SOCKET)), workload(volume_path="/data")
    with disk(tmp_path / "data", "ext4") as full:
        folder = full.folder / volume_files.FOLDER
        folder.mkdir()
        full.fill()
        own.prepare(str(full.folder))
        check = trials._volumes({"DockerRootDir": str(full.folder)})
        assert (check.ok, check.needed) == (False, False)
        assert "not known yet" in check.message
        with pytest.raises(LeaseError) as refused, own.ready(app, ""):
            pass
        assert (refused.value.reason, str(refused.value)) == (Reason.DEVICE_ERROR, DISK_FULL)
        assert not refused.value.permanent
        assert own.look(app.id) is None, "it was not begun as a plain folder"
        full.empty()
        try:
            with own.ready(app, ""):
                found = own.look(app.id)
            assert found is not None
            assert found.bounded
            assert not list(folder.glob(f"*{volume_trial.NAME}*"))
        finally:
            own.remove(app.id)


@pytest.mark.docker
def test_a_layer_waits_while_docker_is_slow_and_is_held_to_its_size_after(
    docker_engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker, app = Engine(SOCKET), workload()
    images = Images(docker, fetch=lambda *_: None, folder=tmp_path)
    executor = DockerExecutor(CONFIG, engine=docker, images=images)
    layers = executor._bounded
    with monkeypatch.context() as change:
        change.setattr(layer_trial, "SECONDS", 1e-9)
        executor.prepare()
        info = docker.call("GET", "/info")
        check = trials._layers(trials.Trials(docker, device_id=f"{NAME}-doctor"), info)
        assert not check.ok
        assert "not known yet" in check.message
        with pytest.raises(LeaseError, match="waits") as refused, layers.fresh("lease", app):
            pass
        assert (refused.value.reason, refused.value.permanent) == (Reason.DEVICE_ERROR, False)
    try:
        with layers.fresh("lease", app) as layer:
            assert layer is not None, "held, once it could be tried"
            layer.wait()
    finally:
        layers.remove("lease")
        engine.remove_labelled(f"io.interchain.device={NAME}")
        volume_files.erase_all(NAME, docker)
    assert leftovers.of_volumes(sandbox.volume_name(NAME, "")) == []


@pytest.mark.docker
def test_a_layer_s_trial_on_a_full_disk_says_neither_yes_nor_no(docker_engine: None, tmp_path: Path) -> None:
    docker = Engine(SOCKET)
    info = docker.call("GET", "/info")
    with disk(tmp_path / "data", "ext4") as full:
        folder = full.folder / volume_files.FOLDER
        folder.mkdir()
        full.fill()
        with pytest.raises(Untried, match="o space left on device"):
            layer_trial.why_not(folder, docker, info)
        full.empty()
        assert layer_trial.why_not(folder, docker, info) == ""


APART = """
import sys
from pathlib import Path
from nodes.agent import layer_trial
from nodes.agent.engine import Engine
docker = Engine(sys.argv[1])
info = docker.call("GET", "/info")
print(layer_trial.why_not(Path(info["DockerRootDir"]) / "interchain", docker, info))
"""


@pytest.mark.docker
def test_an_agent_that_cannot_see_docker_s_mounts_can_hold_no_layer_and_nothing_waits_for_it(
    docker_engine: None,
) -> None:
    apart = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", APART, SOCKET]
    done = subprocess.run(apart, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert "where this agent cannot see it" in done.stdout, done.stderr


KILLED = """
import os, signal, sys
from pathlib import Path
from nodes.agent import disk_pace, loops, volume_trial
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
loops.attach = os.fdatasync = die
volume_trial.why_not(Path(sys.argv[2])) if sys.argv[1] == "trial" else disk_pace.measure(Path(sys.argv[2]))
"""


def _killed_in(what: str, folder: Path) -> None:
    command = [sys.executable, "-c", KILLED, what, str(folder)]
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=120).returncode == -9


@pytest.mark.docker
@pytest.mark.parametrize("next_is", ["a start", "an uninstall"])
def test_a_volume_s_trial_that_was_killed_in_the_middle_is_tidied_up(docker_engine: None, next_is: str) -> None:
    docker = Engine(SOCKET)
    folder = Path(docker.call("GET", "/info")["DockerRootDir"]) / volume_files.FOLDER
    folder.mkdir(mode=0o711, exist_ok=True)
    _killed_in("trial", folder)
    (folder / ".trial-1-2.img").touch()  # as an older agent left it
    assert list(folder.glob(f"{volume_trial.NAME}*"))
    if next_is == "a start":
        Volumes(CONFIG, docker).prepare(str(folder.parent))
    else:
        volume_files.erase_all(NAME, docker)
    assert not list(folder.glob("*trial-*")) + list(folder.glob(".trial-*"))


def test_an_agent_that_is_killed_while_it_measures_the_disk_leaves_nothing(tmp_path: Path) -> None:
    _killed_in("pace", tmp_path)
    assert list(tmp_path.iterdir()) == []
