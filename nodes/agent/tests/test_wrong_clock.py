"""An owner's clock set half a minute and a day forward, two days back and right again under a running agent, and a second agent with its key."""

from __future__ import annotations

import shutil
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent.protocol import Image, Meter, Observed
from nodes.agent.tests.conftest import AgentProcess, counted_by_the_kernel, lease, told_in_full, workload
from nodes.agent.tests.portal import FakePortal

pytestmark = pytest.mark.docker
BUSY = "httpd -p 8080 -h /www; while true; do usleep 20000; done"
SOURCE = Path(__file__).with_name("wrong_clock.c")
DAY = 86_400
UNNOTICED = 30  # seconds an app may go unseen and still be counted
PATIENCE = 120  # a busy machine takes seconds to start an agent


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """The file that says how many seconds the wall clock of what preloads the library beside it is off."""
    library = tmp_path / "wrong_clock.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(library), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    offset = tmp_path / "clock"
    offset.write_text("0")
    return offset


def test_a_clock_that_jumps_moves_no_total(
    portal: FakePortal, tmp_path: Path, clock: Path, docker_engine: None
) -> None:
    agent = AgentProcess(tmp_path / "home", portal)
    agent.enrol()
    agent.environment |= {"LD_PRELOAD": str(clock.with_name("wrong_clock.so")), "WRONG_CLOCK": str(clock)}
    wanted = lease(workload(image=Image(reference=engine.image(BUSY))))
    began = time.monotonic()
    try:
        agent.start()
        portal.want(wanted)
        portal.wait_for(wanted.lease_id, Observed.RUNNING, PATIENCE)
        for offset in (UNNOTICED, DAY, -DAY, 0):
            clock.write_text(str(offset))
            told_in_full(portal, wanted.lease_id)
        assert "clock is" in agent.log, "the agent noticed, so the clock was really off"
        uptime = [item.total for item in portal.readings if item.meter is Meter.UPTIME]
        assert uptime == sorted(uptime)
        assert 0 < uptime[-1] <= (time.monotonic() - began) * 1000
    finally:
        agent.kill()
        engine.remove_labelled(f"io.interchain.device={portal.device_id}")


def test_two_agents_with_one_key_say_no_more_than_was_used(
    shared_agent: AgentProcess, shared_portal: FakePortal, tmp_path: Path
) -> None:
    wanted = lease(workload(image=Image(reference=engine.image(BUSY))))
    shared_portal.want(wanted)
    shared_portal.wait_for(wanted.lease_id, Observed.RUNNING, PATIENCE)
    told_in_full(shared_portal, wanted.lease_id)
    copy = AgentProcess(tmp_path / "home", shared_portal)
    shutil.copytree(shared_agent.home, copy.home)
    since = datetime.now(timezone.utc).isoformat()
    copy.start_without_portal()
    try:
        batches = len(shared_portal.batches)
        shared_portal.wait(lambda: len(shared_portal.batches) > batches + 8, PATIENCE, "readings of both")
        told_in_full(shared_portal, wanted.lease_id)
    finally:
        copy.kill()
    late = [item.total for item in shared_portal.readings if item.meter is Meter.COMPUTE and item.at > since]
    assert max(late) <= counted_by_the_kernel(shared_portal, wanted.lease_id)
