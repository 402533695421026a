"""Whether a device can encrypt is found out with Docker's own mount, and nothing of it stays: real Docker, ext4 and loop devices."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from interchain_site.testing import docker
from nodes.agent import disks, encryption, openers, trial_turns, trials, volume_files
from nodes.agent.config import Config
from nodes.agent.encryption_trial import NAME, why_not
from nodes.agent.engine import Engine
from nodes.agent.errors import LeaseError
from nodes.agent.protocol import Check
from nodes.agent.tests import leftovers
from nodes.agent.tests.conftest import workload
from nodes.agent.tests.test_encryption import key
from nodes.agent.trial_turns import Untried
from nodes.agent.volumes import Volumes

pytestmark = pytest.mark.docker
SOCKET = "unix:///var/run/docker.sock"


@pytest.fixture
def folder(docker_engine: None) -> Path:
    found = Path(docker.docker("info", "-f", "{{.DockerRootDir}}")) / volume_files.FOLDER
    if why := why_not(found, Engine(SOCKET)):
        pytest.skip(f"data cannot be encrypted here: {why}")
    return found


def containers() -> "list[str]":
    return docker.docker("ps", "-aq", "--filter", "label=io.interchain.trial=encryption").split()


def check(engine: Engine) -> Check:
    info = Engine(SOCKET).call("GET", "/info")
    return trials._encryption(engine, info, Check(trials.VOLUMES, True, ""))


def test_it_leaves_nothing(folder: Path) -> None:
    assert check(Engine(SOCKET)).ok
    assert leftovers.of_volumes(NAME) == []
    assert containers() == []


# What the unit's SystemCallFilter forbids: mount, umount2 and, of the newer calls, fsopen, fsmount and move_mount (x86-64).
WITHOUT_MOUNT = """
import ctypes, struct, sys
from pathlib import Path
libc = ctypes.CDLL(None, use_errno=True)
forbidden = (165, 166, 429, 430, 432)
code = [(0x20, 0, 0, 0)] + [(0x15, len(forbidden) - at, 0, number) for at, number in enumerate(forbidden)]
code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050001)]
filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(filters)))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
assert libc.mount(b"none", b"/mnt", b"tmpfs", 0, None) == -1 and ctypes.get_errno() == 1
from nodes.agent.encryption_trial import why_not
from nodes.agent.engine import Engine
print(repr(why_not(Path(sys.argv[1]), Engine(sys.argv[2]))))
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the calls are those of x86-64")
def test_it_needs_no_right_to_mount(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MOUNT, folder, SOCKET], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "''", done.stderr


def test_a_file_system_the_kernel_does_not_encrypt_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make: Callable[..., None] = disks.make
    monkeypatch.setattr(disks, "make", lambda path, size, **how: make(path, size))
    found = check(Engine(SOCKET))
    assert (found.ok, found.needed) == (False, False)
    assert "this kernel has no encryption for ext4" in found.message
    assert leftovers.of_volumes(NAME) == []


def test_what_can_be_read_from_the_disk_is_no_proof(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "unlock", lambda mounted, key, owner: mounted)
    assert "does not keep the text" in why_not(folder, Engine(SOCKET))


def test_what_could_not_be_tried_is_neither_yes_nor_no(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = check(Engine("unix:///nowhere/docker.sock"))
    assert not found.ok
    assert "not known yet" in found.message
    with monkeypatch.context() as change:  # Docker mounts it where this agent does not see it
        change.setattr(openers, "_has", lambda path, number: lambda: False)
        change.setattr(openers, "MOUNT_SECONDS", 0.5)
        with pytest.raises(Untried, match="cannot see it"):
            why_not(folder, Engine(SOCKET))
    assert why_not(folder, Engine(SOCKET)) == ""
    assert leftovers.of_volumes(NAME) == []


BESIDE = """
import sys
from pathlib import Path
from nodes.agent import openers
from nodes.agent.encryption_trial import why_not
from nodes.agent.engine import Engine
openers.MOUNT_SECONDS = 100_000
why_not(Path(sys.argv[1]), Engine(sys.argv[2]))
"""


def test_an_agent_that_cannot_see_docker_s_mounts_finds_that_out_without_waiting(folder: Path) -> None:
    apart = ["unshare", "--mount", "--propagation", "private"]
    command = [*apart, sys.executable, "-c", BESIDE, str(folder), SOCKET]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "Untried: Docker has mounted the volume where this agent cannot see it" in done.stderr
    assert leftovers.of_volumes(NAME) == []
    assert containers() == []


def test_a_volume_with_a_key_waits_until_it_could_be_tried(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Volumes(Config(NAME, "http://127.0.0.1", "ws://127.0.0.1", 10**9), Engine(SOCKET))
    app = replace(workload(), volume_path="/data")
    own.keys.know({app.id: key()})
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)  # another agent is in the middle of its own trial
    monkeypatch.setattr(trial_turns, "TURN_SECONDS", 0.3)
    try:
        own.prepare(str(folder.parent))
        with pytest.raises(LeaseError, match="could not be tried") as refused, own.ready(app, ""):
            pass
        assert not refused.value.permanent
        assert own.look(app.id) is None, "it was not begun without"
    finally:
        os.close(lock)
    monkeypatch.undo()
    try:
        with own.ready(app, "") as opened:
            assert opened.endswith("-open"), "encrypted, once it could be tried"
    finally:
        own.remove(app.id)


STOPPED_INSIDE = """
import sys, time
from pathlib import Path
from nodes.agent import encryption, encryption_trial
from nodes.agent.engine import Engine
encryption.unlock = lambda mounted, key, owner: (print(mounted, flush=True), time.sleep(600))
encryption_trial.why_not(Path(sys.argv[1]), Engine(sys.argv[2]))
"""


@pytest.mark.parametrize("next_is", ["a start", "an uninstall"])
def test_one_that_was_killed_in_the_middle_is_tidied_up(folder: Path, next_is: str) -> None:
    command = [sys.executable, "-c", STOPPED_INSIDE, str(folder), SOCKET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trial:
        assert trial.stdout is not None
        mounted = trial.stdout.readline().strip()
        assert os.path.ismount(mounted)
        trial.kill()
    until = time.monotonic() + 60
    while os.path.ismount(mounted) and time.monotonic() < until:
        time.sleep(0.05)
    assert not os.path.ismount(mounted), "Docker lets go of it by itself"
    assert containers()
    assert (folder / f"{NAME}.img").exists()
    if next_is == "a start":
        Volumes(Config(NAME, "http://127.0.0.1", "ws://127.0.0.1", 10**9), Engine(SOCKET)).prepare(str(folder.parent))
    else:
        volume_files.erase_all("nobody", Engine(SOCKET))
    assert leftovers.of_volumes(NAME) == []
    assert containers() == []
