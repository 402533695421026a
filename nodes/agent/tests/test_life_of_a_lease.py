"""A lease on a real Engine, through a real agent process, against a portal over real HTTP."""

from __future__ import annotations

import os
import signal
import time
import urllib.error
import urllib.request
from dataclasses import replace

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import benchmark
from nodes.agent.counters import Counters
from nodes.agent.protocol import Action, Image, Meter, Observed, Reason, SpotCheck
from nodes.agent.tests.conftest import AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal

pytestmark = pytest.mark.docker
SERVE = "httpd -f -p 8080 -h /www"
BUSY = "httpd -p 8080 -h /www; while true; do head -c 100000 /dev/zero >> /data/grows; usleep 20000; i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; done"


def get(port: int) -> str:
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read().decode()


def test_run_meter_stop_wipe(agent: AgentProcess, portal: FakePortal) -> None:
    what = workload(
        image=Image(reference=engine.image(BUSY)),
        volume_path="/data",
        disk_bytes=10**9,
        environment={"SECRET": "hunter2"},
    )
    wanted = lease(what)
    portal.want(wanted)
    status = portal.wait_for(wanted.lease_id, Observed.RUNNING)
    assert "hello" in get(status.host_port)
    assert status.image_id == engine.image(BUSY)
    every = {Meter.COMPUTE, Meter.TRANSFER, Meter.UPTIME, Meter.STORAGE}
    first = portal.wait(
        lambda: portal.totals(wanted.lease_id).keys() >= every and portal.totals(wanted.lease_id), what="all meters"
    )
    for _ in range(20):
        get(status.host_port)
    portal.wait(
        lambda: portal.totals(wanted.lease_id)[Meter.TRANSFER] > first[Meter.TRANSFER] + 20 * 200, what="transfer"
    )
    portal.wait(lambda: portal.totals(wanted.lease_id)[Meter.STORAGE] > 0, 40, what="storage")
    later = portal.totals(wanted.lease_id)
    assert all(later[meter] > first[meter] for meter in (Meter.COMPUTE, Meter.UPTIME))

    portal.want(lease(what, action=Action.STOP, lease_id=wanted.lease_id))
    portal.wait_for(wanted.lease_id, Observed.STOPPED)
    with pytest.raises(urllib.error.URLError):
        get(status.host_port)
    assert labelled("volume", portal) == 1
    assert labelled("container", portal) == 0

    portal.want(lease(what, action=Action.WIPE, lease_id=wanted.lease_id))
    portal.wait_for(wanted.lease_id, Observed.WIPED)
    receipt = portal.wait(lambda: portal.receipts, what="receipt")[0]
    assert (receipt.lease_id, receipt.workload_id, receipt.device_id) == (wanted.lease_id, what.id, portal.device_id)
    assert receipt.volume_bytes >= 100_000
    assert labelled("volume", portal) == 0
    assert not os.path.exists(f"/sys/fs/cgroup/cpuacct/interchain/{wanted.lease_id}")
    portal.want()
    portal.wait(lambda: "hunter2" not in (agent.home / "desired.json").read_text(), what="no secret on disk")


def labelled(kind: str, portal: FakePortal) -> int:
    """Count what the device has of apps; the network it keeps ready for the next one is none of theirs."""
    listing = {"volume": ["volume", "ls", "-q"], "container": ["ps", "-aq", "--filter", "label=io.interchain.lease"]}
    return len(engine.docker(*listing[kind], "--filter", f"label=io.interchain.device={portal.device_id}").split())


def test_totals_go_on_after_the_agent_is_killed(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = lease(workload(image=Image(reference=engine.image(BUSY)), volume_path="/data", disk_bytes=10**9))
    portal.want(wanted)
    status = portal.wait_for(wanted.lease_id, Observed.RUNNING)
    container = engine.docker("ps", "-q", "--filter", f"label=io.interchain.lease={wanted.lease_id}")
    for _ in range(3):
        portal.wait(lambda: portal.totals(wanted.lease_id).get(Meter.COMPUTE, 0) > 0)
        agent.kill(signal.SIGKILL)
        get(status.host_port)  # the app does not notice
        agent.start()
        before = len(portal.reports)
        portal.wait(
            lambda before=before: (
                len(portal.reports) > before and portal.status(wanted.lease_id).observed is Observed.RUNNING
            )
        )
    batches = len(portal.batches)
    portal.wait(lambda: len(portal.batches) > batches + 1)
    assert engine.docker("ps", "-q", "--filter", f"label=io.interchain.lease={wanted.lease_id}") == container
    for meter in (Meter.COMPUTE, Meter.TRANSFER, Meter.UPTIME):
        totals = [reading.total for reading in portal.readings if reading.meter is meter]
        assert totals == sorted(totals)
    # Nothing twice, nothing lost: after the last look the reported total is what the kernel counted over the whole life.
    used = Counters().cpu_nanoseconds(wanted.lease_id, 0)
    rate = portal.enrolment.benchmark.instructions_per_second
    reported = portal.totals(wanted.lease_id)[Meter.COMPUTE]
    assert 0.5 * used.value * rate < reported * 10**9 <= used.value * rate


def test_the_portal_may_be_gone_for_a_while(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = lease(workload(image=Image(reference=engine.image(SERVE))))
    portal.want(wanted)
    status = portal.wait_for(wanted.lease_id, Observed.RUNNING)
    portal.fail_with = 503
    time.sleep(2.5)
    agent.kill(signal.SIGKILL)
    engine.docker("rm", "-f", f"interchain-{wanted.lease_id}")
    agent.start_without_portal()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            assert "hello" in get(status.host_port)
            break
        except OSError:
            time.sleep(0.1)
    else:
        pytest.fail("the agent did not start the lease from its own disk: " + agent.log)
    portal.wait(lambda: list((agent.home / "outbox").glob("*.jws")), 20, "readings wait")
    portal.fail_with = None
    portal.wait(lambda: not list((agent.home / "outbox").glob("*.jws")), 60, "the outbox is empty")


def test_what_a_stopped_lease_used_last_is_reported(agent: AgentProcess, portal: FakePortal) -> None:
    portal.want(reading_interval_seconds=600)
    wanted = lease(workload(image=Image(reference=engine.image(SERVE))))
    portal.want(wanted)
    status = portal.wait_for(wanted.lease_id, Observed.RUNNING)
    for _ in range(20):
        get(status.host_port)
    portal.want()  # not even asked to stop: simply not named any more
    last = portal.wait(lambda: portal.totals(wanted.lease_id), what="the last readings")
    assert last[Meter.TRANSFER] > 20 * 200
    assert last[Meter.COMPUTE] > 0


def test_a_damaged_memory_stops_nothing(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = lease(workload(image=Image(reference=engine.image(SERVE))))
    portal.want(wanted)
    status = portal.wait_for(wanted.lease_id, Observed.RUNNING)
    agent.kill(signal.SIGKILL)
    (agent.home / "desired.json").write_text("{")
    portal.fail_with = 503
    agent.start_without_portal()
    time.sleep(4)
    assert "hello" in get(status.host_port)
    portal.fail_with = None
    before = len(portal.reports)
    portal.wait(
        lambda: len(portal.reports) > before and portal.status(wanted.lease_id).observed is Observed.RUNNING, 60
    )


def test_a_second_agent_in_the_same_folder_is_refused(agent: AgentProcess) -> None:
    done = agent.cli("run", "--home", str(agent.home))
    assert done.returncode == 1
    assert "Another agent is at work" in done.stderr


def test_a_wake_up_acts_at_once(agent: AgentProcess, portal: FakePortal) -> None:
    portal.want(poll_interval_seconds=600)
    wanted = lease(workload(image=Image(reference="sha256:" + "1" * 64)))
    time.sleep(1)
    began = time.monotonic()
    portal.want(wanted)
    portal.wait_for(wanted.lease_id, Observed.PREPARING, 5)
    assert time.monotonic() - began < 0.5


def test_goodbye_leaves_apps_running(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = lease(workload(image=Image(reference=engine.image(SERVE))))
    portal.want(wanted)
    status = portal.wait_for(wanted.lease_id, Observed.RUNNING)
    assert agent.kill(signal.SIGTERM) == 0
    assert "hello" in get(status.host_port)
    assert not list((agent.home / "outbox").glob("*.jws"))
    portal.wait(lambda: not portal.linked, 5, "the link is closed")


def test_a_newer_generation_takes_over_and_the_volume_goes_with_it(agent: AgentProcess, portal: FakePortal) -> None:
    command = "echo $GENERATION >> /data/seen; cp /data/seen /data/index.html; httpd -f -p 8080 -h /data"
    what = workload(
        image=Image(reference=engine.image(command)), volume_path="/data", environment={"GENERATION": "one"}
    )
    old = lease(what)
    portal.want(old)
    portal.wait_for(old.lease_id, Observed.RUNNING)
    new = lease(replace(what, environment={"GENERATION": "two"}), generation=2)
    portal.want(old, new)
    status = portal.wait_for(new.lease_id, Observed.RUNNING)
    portal.wait_for(old.lease_id, Observed.STOPPED)
    assert get(status.host_port).split() == ["one", "two"]
    portal.want(lease(what, action=Action.WIPE, lease_id=old.lease_id), new)
    portal.wait_for(old.lease_id, Observed.WIPED)
    assert labelled("volume", portal) == 1, "the newer generation's data must survive the older one's wipe"
    assert get(status.host_port).split() == ["one", "two"]


def test_a_lease_the_portal_no_longer_names_is_stopped_and_keeps_its_volume(
    agent: AgentProcess, portal: FakePortal
) -> None:
    wanted = lease(workload(image=Image(reference=engine.image(SERVE)), volume_path="/data"))
    portal.want(wanted)
    portal.wait_for(wanted.lease_id, Observed.RUNNING)
    portal.want()
    portal.wait(lambda: labelled("container", portal) == 0, what="no container")
    assert labelled("volume", portal) == 1


def test_a_crashed_app_is_back_in_a_moment(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = lease(workload(image=Image(reference=engine.image(SERVE))))
    portal.want(wanted)
    status = portal.wait_for(wanted.lease_id, Observed.RUNNING)
    engine.docker("kill", f"interchain-{wanted.lease_id}")
    again = portal.wait_for(wanted.lease_id, Observed.UNHEALTHY)
    assert again.reason is Reason.EXITED
    after = portal.wait_for(wanted.lease_id, Observed.RUNNING)
    assert (after.host_port, after.restarts) == (status.host_port, 1)
    assert "hello" in get(after.host_port)


def test_two_agents_on_one_engine_leave_each_other_alone(agent: AgentProcess, portal: FakePortal, tmp_path) -> None:
    mine = lease(workload(image=Image(reference=engine.image(SERVE))))
    portal.want(mine)
    portal.wait_for(mine.lease_id, Observed.RUNNING)
    (tmp_path / "other").mkdir()
    with FakePortal() as other_portal:
        other = AgentProcess(tmp_path / "other/home", other_portal)
        other.enrol()
        other.start()
        try:
            theirs = lease(workload(image=Image(reference=engine.image(SERVE))))
            other_portal.want(theirs)
            status = other_portal.wait_for(theirs.lease_id, Observed.RUNNING)
            assert "hello" in get(status.host_port)
            assert "hello" in get(portal.status(mine.lease_id).host_port)
        finally:
            other.kill()
            engine.remove_labelled(f"io.interchain.device={other_portal.device_id}")


def test_a_spot_check_is_answered_beside_the_apps(agent: AgentProcess, portal: FakePortal) -> None:
    check = SpotCheck("3a3b8f6e-0000-4000-8000-000000000001", "ab" * 32, 3)
    portal.want(spot_check=check)
    answer = portal.wait(lambda: portal.spot_checks, what="an answer")[0]
    assert answer.digests == benchmark.chain(check.seed, check.rounds)[0]
    assert answer.processor_milliseconds > 0
