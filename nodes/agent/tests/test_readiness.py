"""An app that lives and is not ready: no requests, no uptime, no restart; one that no longer lives is restarted."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from interchain_site.testing import docker as engine
from nodes.agent.protocol import HealthCheck, Image, Meter, Observed
from nodes.agent.reconcile import UNHEALTHY_CHECKS
from nodes.agent.tests.conftest import AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal

pytestmark = pytest.mark.docker
SERVE = "echo yes > /www/ready; httpd -f -p 8080 -h /www"
CHECK = HealthCheck(kind="http", ready_path="/ready", interval_seconds=1, start_seconds=20)


def test_not_ready_is_kept_from_requests_and_left_running(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = lease(workload(image=Image(reference=engine.image(SERVE)), health=CHECK))
    portal.want(wanted)
    portal.wait_for(wanted.lease_id, Observed.RUNNING)
    container = container_of(wanted.lease_id)

    engine.docker("exec", container, "rm", "/www/ready")
    status = portal.wait_for(wanted.lease_id, Observed.UNHEALTHY)
    assert "not ready" in status.message
    time.sleep(UNHEALTHY_CHECKS + 3)  # for so long it would have been restarted if it did not live
    stood = told_next(portal, wanted.lease_id)
    assert told_next(portal, wanted.lease_id) == stood, "what is not ready has no uptime"
    assert portal.status(wanted.lease_id).restarts == 0
    assert engine.docker("inspect", "-f", "{{.RestartCount}} {{.State.Running}}", container) == "0 true"

    engine.docker("exec", container, "sh", "-c", "echo yes > /www/ready")
    portal.wait_for(wanted.lease_id, Observed.RUNNING)
    assert container_of(wanted.lease_id) == container
    portal.wait(lambda: portal.totals(wanted.lease_id)[Meter.UPTIME] > stood, what="uptime goes on")


def test_what_was_not_ready_and_dies_is_restarted(agent: AgentProcess, portal: FakePortal) -> None:
    what = workload(image=Image(reference=engine.image(SERVE)), health=replace(CHECK, path="/index.html"))
    wanted = lease(what)
    portal.want(wanted)
    portal.wait_for(wanted.lease_id, Observed.RUNNING)
    engine.docker("exec", container_of(wanted.lease_id), "sh", "-c", "rm /www/ready")
    portal.wait_for(wanted.lease_id, Observed.UNHEALTHY)
    engine.docker("exec", container_of(wanted.lease_id), "sh", "-c", "mv /www/index.html /www/gone")
    portal.wait(lambda: portal.status(wanted.lease_id).restarts == 1, 30, "a restart")


def container_of(lease_id: str) -> str:
    return engine.docker("ps", "-q", "--filter", f"label=io.interchain.lease={lease_id}")


def told_next(portal: FakePortal, lease_id: str) -> int:
    """Return the uptime of a reading that was taken after this call began."""
    known = len(portal.batches)
    portal.wait(lambda: len(portal.batches) > known + 1, what="two more batches")
    return portal.totals(lease_id)[Meter.UPTIME]
