"""The disk with the agent's own files is full: apps go on, the portal is obeyed, no unit is lost or told twice, and all is well once there is room."""

from __future__ import annotations

import json
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent.protocol import Action, Image, Meter, Observed
from nodes.agent.tests.conftest import counted_by_the_kernel, lease, running_agent, told_in_full, workload
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.sized_disk import disk

pytestmark = pytest.mark.docker
BUSY = "httpd -p 8080 -h /www; while true; do usleep 20000; done"
PATIENCE = 120


def kept(home: Path, lease_id: str) -> "dict[str, dict[str, object]]":
    """Return a lease's totals as they are on the disk."""
    found: "dict[str, dict[str, object]]" = json.loads((home / "meters.json").read_text())["leases"][lease_id]["totals"]
    return found


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_full_disk_stops_nothing_and_loses_nothing(
    kind: str, portal: FakePortal, tmp_path: Path, docker_engine: None
) -> None:
    with disk(tmp_path / "home", kind) as full, running_agent(portal, tmp_path) as agent:
        first = lease(workload(image=Image(reference=engine.image(BUSY))))
        portal.want(first)
        portal.wait_for(first.lease_id, Observed.RUNNING, PATIENCE)
        told_in_full(portal, first.lease_id)
        reports, until = len(portal.reports), time.monotonic() + PATIENCE
        while (
            "No space left" not in agent.log
        ):  # what it removes meanwhile, such as a batch that was taken, makes room again
            assert time.monotonic() < until, "the agent does not say so"
            full.fill()
            time.sleep(0.5)
        address = engine.docker(
            "inspect", "-f", '{{index .Config.Labels "io.interchain.address"}}', f"interchain-{first.lease_id}"
        )
        assert urllib.request.urlopen(f"http://{address}:8080/", timeout=10).status == 200
        # What the portal wants is done though it cannot be written down, and the device is heard.
        used = counted_by_the_kernel(portal, first.lease_id)
        second = lease(workload(image=Image(reference=engine.image(BUSY))))
        portal.want(replace(first, action=Action.STOP), second)
        portal.wait_for(first.lease_id, Observed.STOPPED, PATIENCE)
        portal.wait_for(second.lease_id, Observed.RUNNING, PATIENCE)
        portal.wait(lambda: len(portal.reports) > reports + 2, PATIENCE, "its reports")
        assert not kept(agent.home, first.lease_id)["uptime"]["source"], "the little that must be kept finds room"
        # Nor does it matter that the agent itself ends meanwhile.
        agent.kill()
        agent.start()
        portal.wait_for(second.lease_id, Observed.RUNNING, PATIENCE)
        assert "Traceback" not in agent.log
        full.empty()
        portal.wait(lambda: portal.totals(first.lease_id)[Meter.COMPUTE] >= used, PATIENCE, "all of the stopped app")
        told_in_full(portal, second.lease_id)
        portal.wait(lambda: portal.totals(second.lease_id).get(Meter.UPTIME, 0) > 0, PATIENCE, "and it goes on")
        for told in (first, second):
            rising = [
                item.total for item in portal.readings if (item.lease_id, item.meter) == (told.lease_id, Meter.UPTIME)
            ]
            assert rising == sorted(rising)
