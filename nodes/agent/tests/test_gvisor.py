"""gVisor: proven by running a container as apps are run, and every way in which it is there but does not do told from it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nodes.agent import gvisor, gvisor_program, runtimes
from nodes.agent.errors import LeaseError
from nodes.agent.protocol import Reason, Runtime
from nodes.agent.tests.conftest import ROOT, workload

SOURCE = Path(gvisor_program.__file__).with_name("gvisor_trial.c")


@pytest.mark.docker
def test_a_device_with_gvisor_proves_it_and_runs_apps_under_it(docker_engine: None, tmp_path: Path) -> None:
    command = ["unshare", "--net", sys.executable, "-m", "nodes.agent.tests.gvisor_device", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


@pytest.mark.docker
def test_the_program_of_the_trial_is_its_source_compiled(tmp_path: Path) -> None:
    lines = (gvisor_program.__doc__ or "").replace("\\\n", " ").splitlines()
    (command,) = [line.split() for line in lines if line.strip().startswith("gcc ")]
    subprocess.run([*command[:-1], "-o", "made", SOURCE], cwd=tmp_path, check=True)
    made, kept = ((tmp_path / "made").read_bytes(), gvisor_program.program("x86_64"))
    # Another compiler may choose other instructions; what it says and asks of the kernel stays.
    assert made == kept or (b"/open/written\0" in kept and abs(len(made) - len(kept)) < 400)


def test_a_docker_without_gvisor_says_so(tmp_path: Path) -> None:
    (tmp_path / runtimes.FILE).write_text(json.dumps({"runtime": "runsc"}))
    info = {"Runtimes": {"runc": {"path": "runc"}}}
    found = gvisor.check(None, info, tmp_path)  # type: ignore[arg-type]
    assert not found.ok
    assert not found.needed
    assert runtimes.proven(tmp_path) == "", "what was proven before does not hold any more"


def test_runtimes_that_look_like_gvisor_are_tried_runsc_first() -> None:
    known = {
        "runc": {"path": "runc"},
        "safe": {"path": "/usr/bin/runsc"},
        "runsc": {"path": "/x"},
        "shim": {"runtimeType": "io.containerd.runsc.v1"},
    }
    assert gvisor.registered({"Runtimes": known}) == ["runsc", "safe", "shim"]


@pytest.mark.parametrize(
    ("changes", "proven", "gets"),
    [
        ({}, "runsc", ""),
        ({"runtime": Runtime.GVISOR}, "runsc", "runsc"),
        ({"runtime": Runtime.GVISOR, "runtime_optional": True}, "runsc", "runsc"),
        ({"runtime": Runtime.GVISOR, "runtime_optional": True}, "", ""),
        ({"runtime": Runtime.GVISOR, "runtime_optional": True, "outbound": True}, "runsc", ""),
    ],
)
def test_what_a_workload_runs_under(changes: dict[str, object], proven: str, gets: str) -> None:
    assert runtimes.choose(workload(**changes), lambda: proven) == gets


@pytest.mark.parametrize(("proven", "outbound"), [("", False), ("runsc", True)])
def test_what_must_have_gvisor_never_runs_without_it(proven: str, outbound: bool) -> None:
    with pytest.raises(LeaseError) as raised:
        runtimes.choose(workload(runtime=Runtime.GVISOR, outbound=outbound), lambda: proven)
    assert raised.value.reason is Reason.DECLINED
    assert raised.value.permanent
