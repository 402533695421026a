"""No portal for an hour: apps run and are metered, the outbox is bounded, the agent may even die; after, everything is told once.

Time is shortened, not faked: a reading each second in place of one each minute, so sixty-six seconds are the readings of an hour and
more of them than the outbox keeps apart. `nodes/tests/test_metering_under_faults.py` has the hour by the agent's own clock.
"""

from __future__ import annotations

import time
import urllib.request

import pytest

from interchain_site.testing import docker as engine
from nodes.agent.outbox import MOST_BATCHES
from nodes.agent.protocol import Image, Meter, Observed
from nodes.agent.tests.conftest import AgentProcess, lease, told_in_full, workload
from nodes.agent.tests.portal import FakePortal

pytestmark = pytest.mark.docker
BUSY = "httpd -p 8080 -h /www; while true; do usleep 20000; done"
READINGS = MOST_BATCHES + 2
PATIENCE = 300


def test_an_hour_without_a_portal_is_told_once_after(agent: AgentProcess, portal: FakePortal) -> None:
    began = time.monotonic()
    wanted = lease(workload(image=Image(reference=engine.image(BUSY))))
    portal.want(wanted)
    portal.wait_for(wanted.lease_id, Observed.RUNNING, PATIENCE)
    told_in_full(portal, wanted.lease_id)
    started = engine.docker("inspect", "-f", "{{.State.StartedAt}}", f"interchain-{wanted.lease_id}")
    before, known = portal.totals(wanted.lease_id), len(portal.readings)

    def put() -> int:
        """Return how many batches the agent has ever put into its outbox, while some wait."""
        return max((int(path.name.split("-")[0]) for path in (agent.home / "outbox").glob("*.jws")), default=0)

    portal.fail_with = 503
    portal.drop()
    first = portal.wait(put, PATIENCE, "a reading that waits")
    portal.wait(lambda: put() > first + READINGS // 2, PATIENCE, "half an hour's readings")
    agent.kill()
    agent.start_without_portal()
    portal.wait(lambda: put() > first + READINGS, PATIENCE, "an hour's readings")
    assert len(portal.readings) == known, "the portal heard nothing"
    assert len(list((agent.home / "outbox").glob("*.jws"))) <= MOST_BATCHES + 1
    status = portal.status(wanted.lease_id)
    assert status is not None
    assert urllib.request.urlopen(f"http://127.0.0.1:{status.host_port}/", timeout=10).status == 200
    assert engine.docker("inspect", "-f", "{{.State.StartedAt}}", f"interchain-{wanted.lease_id}") == started

    portal.fail_with = None
    portal.look()
    told_in_full(portal, wanted.lease_id)
    after = portal.totals(wanted.lease_id)
    assert after[Meter.COMPUTE] > before[Meter.COMPUTE]
    assert before[Meter.UPTIME] < after[Meter.UPTIME] <= (time.monotonic() - began) * 1000
    assert portal.duplicates == 0
