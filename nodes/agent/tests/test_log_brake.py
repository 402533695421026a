"""An app that writes to its output as fast as it can, on a real Engine with a real agent: it waits, and its log stays whole."""

from __future__ import annotations

import time
import urllib.request

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import log_brake
from nodes.agent.protocol import DesiredLease, Image, Observed
from nodes.agent.tests.conftest import AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal

pytestmark = pytest.mark.docker
# Lines of 64 characters, a mebibyte at a time; what went out is counted in the volume. It starts when it is told to.
FLOOD = (
    "httpd -p 8080 -h /www; line=0123456789012345678901234567890123456789012345678901234567890123;"
    " i=0; while [ $i -lt 16384 ]; do echo $line; i=$((i+1)); done > /data/block;"
    " while [ ! -e /data/go ]; do sleep 0.1; done; echo first words >&2;"
    " while true; do cat /data/block; echo x >> /data/written; done"
)
SECONDS = 6.0
UNREAD_BYTES = 4 * 2**20  # in Docker's buffers, the kernel's, and the block that is just being written


def flood() -> DesiredLease:
    return lease(workload(image=Image(reference=engine.image(FLOOD)), volume_path="/data", disk_bytes=10**9))


def blocks(name: str) -> int:
    """Return how many MiB the app has written to its output."""
    return len(engine.docker("exec", name, "sh", "-c", "cat /data/written 2>/dev/null || true").split())


def written_in(name: str, seconds: float) -> float:
    """Return how many bytes it wrote to its output in so many seconds."""
    before, began = blocks(name), time.monotonic()
    time.sleep(seconds)
    return (blocks(name) - before) * 2**20 * seconds / (time.monotonic() - began)


def test_an_app_that_floods_its_log_waits_for_the_agent_and_only_for_it(
    agent: AgentProcess, portal: FakePortal
) -> None:
    wanted = flood()
    name = f"interchain-{wanted.lease_id}"
    portal.want(wanted)
    status = portal.wait_for(wanted.lease_id, Observed.RUNNING)
    engine.docker("exec", name, "touch", "/data/go")
    time.sleep(1)  # the burst
    most = log_brake.BYTES_PER_SECOND * SECONDS + UNREAD_BYTES
    assert written_in(name, SECONDS) <= most
    assert urllib.request.urlopen(f"http://127.0.0.1:{status.host_port}/", timeout=10).status == 200
    assert engine.docker("logs", "--tail", "3", name).splitlines()[-1].startswith("0123456789")

    agent.kill()
    assert written_in(name, SECONDS) > most, "without the agent nothing holds it"
    agent.start()
    deadline = time.monotonic() + 60
    while written_in(name, SECONDS) > most:
        assert time.monotonic() < deadline, "an agent that comes back does not hold it"
