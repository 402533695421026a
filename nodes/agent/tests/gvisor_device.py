"""A device whose Docker knows gVisor, in a network of its own. Run by test_gvisor.py.

Its Docker is the test's own, for it must be told of other runtimes. All of them are Debian's real runsc, called in different ways.
Usage: unshare --net python -m nodes.agent.tests.gvisor_device FOLDER
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

from interchain_site.testing import docker as ordinary
from nodes.agent import gvisor, runtimes
from nodes.agent.engine import Engine
from nodes.agent.protocol import Action, HealthCheck, Image, Meter, Observed, Profile, Reason, Runtime, Status, Workload
from nodes.agent.tests.conftest import AgentProcess, lease, told_in_full, workload
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.private_engine import PrivateEngine, private_engine

SECONDS = 120.0
SERVE = "cat /proc/version > /data/version; dmesg > /data/log; (trap '' HUP; while :; do :; done) & httpd -f -p 8080 -h /data"
# Debian 12's runsc takes every network namespace for the device's own on kernels from 6.11 on, because they show a file there that older ones
# did not (google/gvisor issue 10704). Where it cannot see that file, all else is as it is.
HIDDEN = 'exec unshare --mount --propagation slave sh -c \'mount -t tmpfs none /proc/sys/net && exec runsc {} "$@"\' runsc "$@"'
RUNTIMES = {
    "runsc": HIDDEN.format(""),
    "runsc-plain": 'exec runsc "$@"',
    "runsc-host": 'exec runsc --network=host "$@"',
    "runsc-loose": HIDDEN.format("--ignore-cgroups"),
    "runsc-hangs": 'case "$*" in *" create "*) sh -c "sleep 600; :" "$@";; *) exec runsc "$@";; esac',
    "runsc-is-runc": 'exec runc "$@"',
}


def main(folder: Path) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with private_engine(folder, data=folder / "data", options=_runtimes(folder), network=False) as docker:
        failing(Engine(docker.address))
        with FakePortal() as portal:
            agent = AgentProcess(folder / "home", portal, engine=docker.address)
            agent.enrol()
            assert portal.enrolment is not None
            assert portal.enrolment.capacity.runtimes == ("runc", "gvisor")
            agent.start()
            try:
                scenario(docker, portal, agent)
            finally:
                agent.kill(15)
                sys.stderr.write(agent.log)
        assert not _listed(docker), "nothing of a trial is left"
        left = subprocess.run(["pgrep", "-f", f"runsc-sandbox.*{folder}"], capture_output=True, check=False).stdout
        assert not left, "a start that failed leaves no process"


def _runtimes(folder: Path) -> "list[str]":
    options = []
    for name, command in RUNTIMES.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)
        options += ["--add-runtime", f"{name}={path}"]
    return options


def _listed(docker: PrivateEngine) -> str:
    mine = f"label=io.interchain.device={gvisor.TRIAL}"
    kinds = (["ps", "-aq"], ["network", "ls", "-q"], ["volume", "ls", "-q"])
    return "".join(docker.docker(*kind, "--filter", mine) for kind in kinds)


def failing(engine: Engine) -> None:
    """A runtime that Docker knows and that does not do what apps are promised is told from one that does."""
    said = {name: _prove(engine, name) for name in RUNTIMES}
    sys.stderr.write(f"{said}\n")
    assert not said["runsc"].why
    if _shows_the_file():
        assert "too old for kernel" in said["runsc-plain"].why
        assert gvisor.TOO_OLD in said["runsc-plain"].why
    assert "--network=host" in said["runsc-host"].why
    assert "--ignore-cgroups" in said["runsc-loose"].why
    assert "does not start within" in said["runsc-hangs"].why
    assert "the device's own kernel" in said["runsc-is-runc"].why


def _prove(engine: Engine, name: str) -> gvisor.Proof:
    info = engine.call("GET", "/info")
    return gvisor.prove(engine, info | {"Runtimes": {name: info["Runtimes"][name]}})


def _shows_the_file() -> bool:
    command = ["unshare", "--net", "test", "-e", "/proc/sys/net/core/rmem_default"]
    return subprocess.run(command, check=False).returncode == 0


def scenario(docker: PrivateEngine, portal: FakePortal, agent: AgentProcess) -> None:
    """1. An app runs under gVisor and is metered. 2. It works no more: one that may do without it does. 3. One that may not never runs."""
    base = docker.docker("import", "-", "busybox:test", input=ordinary.busybox_root()).strip()
    text = f'FROM {base}\nCMD ["/bin/sh", "-c", "{SERVE}"]\n'
    image = docker.docker("build", "-q", "-", input=text.encode()).strip()
    what = workload(
        image=Image(reference=image), volume_path="/data", profile=Profile.RESTRICTED, memory_bytes=128 * 2**20,
        health=HealthCheck(kind="http", path="/version", interval_seconds=1, start_seconds=60), runtime=Runtime.GVISOR,
    )  # fmt: skip
    first = lease(what)
    portal.want(first)
    status = portal.wait_for(first.lease_id, Observed.RUNNING, SECONDS)
    assert status.runtime == Runtime.GVISOR.value
    assert "gVisor" in _get(status.host_port, "log")
    assert os.uname().release not in _get(status.host_port, "version")
    before = portal.wait(lambda: portal.totals(first.lease_id).get(Meter.TRANSFER), 60, "transfer is counted")
    for _ in range(20):
        _get(status.host_port, "log")
    told_in_full(portal, first.lease_id)
    portal.wait(lambda: portal.totals(first.lease_id)[Meter.TRANSFER] > before + 20 * 200, 60, "the requests' bytes")
    portal.want(dataclasses.replace(first, action=Action.WIPE))
    portal.wait_for(first.lease_id, Observed.WIPED, SECONDS)

    portal.wait(
        lambda: len(portal.checks) >= 2, SECONDS, "the check-up at the agent's start, which tries it again, is over"
    )
    (agent.home / runtimes.FILE).write_text("{}")
    assert _status(portal, dataclasses.replace(what, runtime_optional=True)).runtime == Runtime.RUNC.value
    assert _status(portal, what).reason is Reason.DECLINED


def _status(portal: FakePortal, what: Workload) -> Status:
    wanted = lease(dataclasses.replace(what, id=lease(what).lease_id))
    portal.want(wanted)
    done = (Observed.RUNNING, Observed.FAILED)

    def reached() -> "Status | None":
        status = portal.status(wanted.lease_id)
        return status if status is not None and status.observed in done else None

    found: Status = portal.wait(reached, SECONDS, "the app runs, or is declined")
    return found


def _get(port: int, path: str) -> str:
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=20).read().decode()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
