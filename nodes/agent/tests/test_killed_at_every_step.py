"""kill -9 of the agent at every numbered step of a lease's life, each once: nothing is lost, nothing is twice, nothing is left."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import sandbox
from nodes.agent.counters import Counters
from nodes.agent.protocol import Action, Image, Meter, Observed, Profile
from nodes.agent.tests.conftest import AgentProcess, counted_by_the_kernel, lease, told_in_full, workload
from nodes.agent.tests.dying_agent import STEPS, Ledger
from nodes.agent.tests.portal import FakePortal

pytestmark = pytest.mark.docker
BUSY = "httpd -p 8080 -h /www; while true; do echo x >> /data/grows; usleep 100000; done"
PATIENCE = 240  # a machine that is busy with other things takes seconds for each of forty starts


@contextmanager
def supervised(agent: AgentProcess, ledger: Path) -> Iterator[None]:
    """Start the agent again whenever it has died, as systemd does."""
    ended = threading.Event()
    arguments = ["-m", "nodes.agent.tests.dying_agent", str(ledger), "run", "--home", str(agent.home)]

    def keep() -> None:
        with (agent.home.parent / "agent.log").open("ab") as log:
            while not ended.is_set():
                command = [sys.executable, *arguments]
                agent.process = subprocess.Popen(command, stdout=log, stderr=log, env=agent.environment)
                while agent.process.poll() is None and not ended.wait(0.02):
                    pass
                if agent.process.returncode not in (None, -signal.SIGKILL):
                    return  # a fault of its own: what the test waits for will not come

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)
        with suppress(ProcessLookupError):
            agent.kill()


def test_killed_at_every_step(portal: FakePortal, tmp_path: Path, docker_engine: None) -> None:
    agent, ledger = AgentProcess(tmp_path / "home", portal), Ledger(tmp_path / "ledger")
    agent.enrol()
    what = workload(
        image=Image(reference=engine.image(BUSY)), volume_path="/data", profile=Profile.BASELINE, disk_bytes=10**9
    )
    wanted = lease(what)

    def died_at(*stages: str) -> None:
        steps = {step for step in STEPS if step.startswith(stages)}
        try:
            portal.wait(lambda: steps <= ledger.read(), PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"not dead at {sorted(steps - ledger.read())}: {agent.log[-3000:]}") from error

    began = time.monotonic()
    try:
        with supervised(agent, tmp_path / "ledger"):
            portal.want(wanted)
            died_at(*(f"start {number}" for number in (1, 2, 3, 4, 5, 6, 8)), "desired", "reading", "delivery")
            engine.docker("kill", sandbox.container_name(wanted.lease_id))  # so that it is started once more
            died_at("start 7")
            portal.fail_with = 503
            died_at("merge")
            portal.fail_with = None
            portal.wait_for(wanted.lease_id, Observed.RUNNING, PATIENCE)
            portal.wait(lambda: portal.totals(wanted.lease_id).get(Meter.UPTIME), PATIENCE, "some uptime")
            told_in_full(portal, wanted.lease_id, PATIENCE)
            portal.want(lease(what, action=Action.STOP, lease_id=wanted.lease_id))
            died_at("stop 1", "stop 2", "stop 3", "stop 4", "stop 5")
            portal.wait_for(wanted.lease_id, Observed.STOPPED, PATIENCE)
            portal.wait(lambda: not list((agent.home / "outbox").glob("*.jws")), PATIENCE, "all is delivered")
            # Killed at stop 5, the agent left the lease's cgroup: it has what the app used in its whole life.
            assert portal.totals(wanted.lease_id)[Meter.COMPUTE] == counted_by_the_kernel(portal, wanted.lease_id)
            portal.want(lease(what, action=Action.WIPE, lease_id=wanted.lease_id))
            died_at("stop 6", "wipe")
            portal.wait_for(wanted.lease_id, Observed.WIPED, PATIENCE)
            portal.wait(lambda: not list((agent.home / "outbox").glob("*.jws")), PATIENCE, "all is delivered")
            portal.wait(lambda: portal.receipts, PATIENCE, "the receipt")
        assert ledger.read() == set(STEPS)
        assert {receipt.lease_id for receipt in portal.receipts} == {wanted.lease_id}
        totals = portal.totals(wanted.lease_id)
        assert 0 < totals[Meter.UPTIME] <= (time.monotonic() - began) * 1000
        for meter in totals:
            told = [reading.total for reading in portal.readings if reading.meter is meter]
            assert all(total >= 0 for total in told)
        listed = f"label=io.interchain.device={portal.device_id}"
        assert engine.docker("ps", "-aq", "--filter", listed, "--filter", "label=io.interchain.lease") == ""
        assert engine.docker("volume", "ls", "-q", "--filter", listed) == ""
        assert Counters().cpu_nanoseconds(wanted.lease_id, 0) is None
    finally:
        engine.remove_labelled(f"io.interchain.device={portal.device_id}")
