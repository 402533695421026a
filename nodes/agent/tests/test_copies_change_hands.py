"""Copies that change hands on a real Engine, through a real agent: releases side by side, warm standbys, stale copies, short freezes."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import threading
import time
import urllib.error
import urllib.request

import pytest

from interchain_site.testing import docker as engine
from nodes.agent.protocol import Action, Image, Meter, Observed
from nodes.agent.tests.conftest import AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal

pytestmark = pytest.mark.docker
SERVE = "httpd -f -p 8080 -h /www"
STALE_SECONDS = 10


def get(port: int) -> str:
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read().decode()


def answers(port: int) -> bool:
    try:
        return bool(get(port))
    except (urllib.error.URLError, OSError):
        return False


def test_a_release_runs_beside_the_one_before_which_answers_all_along(agent: AgentProcess, portal: FakePortal) -> None:
    what = workload(image=Image(reference=engine.image(SERVE)))
    old = lease(what)
    portal.want(old)
    port = portal.wait_for(old.lease_id, Observed.RUNNING).host_port
    failed, ended = [], threading.Event()

    def visit() -> None:
        while not ended.wait(0.05):
            if not answers(port):
                failed.append(time.monotonic())

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        new = lease(dataclasses.replace(what, environment={"RELEASE": "2"}), generation=2)
        portal.want(old, new)
        other = portal.wait_for(new.lease_id, Observed.RUNNING).host_port
        assert other != port
        assert answers(other)
        given_up = dataclasses.replace(new, action=Action.STOP)
        portal.want(old, given_up)  # rolled back: the newer one stops, the older one goes on
        portal.wait_for(new.lease_id, Observed.STOPPED)
        assert answers(port)
    finally:
        ended.set()
        visitor.join()
    assert failed == []
    assert portal.status(old.lease_id).restarts == 0


def test_a_warm_standby_is_ready_without_a_process_and_starts_when_it_is_promoted(
    agent: AgentProcess, portal: FakePortal
) -> None:
    what = workload(image=Image(reference=engine.image(SERVE)))
    standby = lease(what, action=Action.STANDBY)
    portal.want(standby)
    portal.wait_for(standby.lease_id, Observed.READY)
    label = f"label=io.interchain.lease={standby.lease_id}"
    container = engine.docker("ps", "-aq", "--filter", label)
    assert container
    assert not engine.docker("ps", "-q", "--filter", label)
    time.sleep(2)
    assert portal.totals(standby.lease_id).get(Meter.UPTIME, 0) == 0
    promoted = dataclasses.replace(standby, action=Action.RUN, generation=2)
    portal.want(promoted)
    status = portal.wait_for(standby.lease_id, Observed.RUNNING)
    assert engine.docker("ps", "-q", "--filter", label) == container, "the very container that was ready"
    assert answers(status.host_port)


@pytest.mark.parametrize("how", ["frozen", "cut off", "agent killed"])
def test_a_stale_copy_stops_within_ten_seconds_of_its_device_coming_back(
    agent: AgentProcess, portal: FakePortal, how: str
) -> None:
    wanted = lease(workload(image=Image(reference=engine.image(SERVE))))
    portal.want(wanted)
    port = portal.wait_for(wanted.lease_id, Observed.RUNNING).host_port
    stopped = dataclasses.replace(wanted, action=Action.STOP)
    assert agent.process is not None
    if how == "frozen":
        os.kill(agent.process.pid, signal.SIGSTOP)
        portal.want(stopped, look=False)
    elif how == "cut off":
        portal.fail_with = 503
        portal.want(stopped, look=False)
        portal.drop()
    else:
        agent.kill()
        portal.want(stopped, look=False)
    time.sleep(3)
    assert answers(port), "it serves on: nobody could tell it"
    began = time.monotonic()
    if how == "frozen":
        os.kill(agent.process.pid, signal.SIGCONT)
    elif how == "cut off":
        portal.fail_with = None
    else:
        agent.start()
    while answers(port):
        assert time.monotonic() - began < STALE_SECONDS, "the stale copy still serves"
        time.sleep(0.2)
    portal.wait_for(wanted.lease_id, Observed.STOPPED)


def test_short_freezes_of_the_agent_leave_what_runs_alone(agent: AgentProcess, portal: FakePortal) -> None:
    """SIGSTOP for 1 to 8 seconds: the app answers all along, is not restarted, and the agent goes on by itself."""
    wanted = lease(workload(image=Image(reference=engine.image(SERVE))))
    portal.want(wanted)
    port = portal.wait_for(wanted.lease_id, Observed.RUNNING).host_port
    assert agent.process is not None
    for seconds in (1.0, random.Random(5).uniform(2, 4), 8.0):
        os.kill(agent.process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        assert answers(port)
        os.kill(agent.process.pid, signal.SIGCONT)
        known = len(portal.reports)
        portal.wait(lambda known=known: len(portal.reports) > known, 30, "a report after the freeze")
        portal.wait(lambda: portal.linked, 30, "the link")
    status = portal.wait_for(wanted.lease_id, Observed.RUNNING)
    assert (status.restarts, status.host_port) == (0, port)
