"""The owner's word at the device, with a real agent and real containers: it holds whatever the portal wants."""

from __future__ import annotations

import json
import signal
import time

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import owner
from nodes.agent.protocol import Hours, Image, Limits, Mode, Observed, Reason, Status
from nodes.agent.tests.conftest import AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.test_life_of_a_lease import SERVE

pytestmark = pytest.mark.docker


def serve(**changes: object):
    return lease(workload(image=Image(reference=engine.image(SERVE)), **changes))


def declined(portal: FakePortal, lease_id: str) -> Status:
    status = portal.wait_for(lease_id, Observed.FAILED)
    assert status.reason is Reason.DECLINED
    return status


def said(agent: AgentProcess, *arguments: str) -> str:
    done = agent.cli(*arguments, "--home", str(agent.home))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pause_lets_what_runs_go_on_and_takes_nothing_new(agent: AgentProcess, portal: FakePortal) -> None:
    first, second = serve(), serve()
    portal.want(first)
    portal.wait_for(first.lease_id, Observed.RUNNING)
    assert "takes no new apps" in said(agent, "pause")
    portal.wait(lambda: portal.reports[-1][1].mode is Mode.PAUSED, 10, "the report of the pause")
    portal.want(first, second)
    assert "paused it" in declined(portal, second.lease_id).message
    assert portal.status(first.lease_id).observed is Observed.RUNNING
    assert "takes no new apps" in said(agent, "status")
    assert "takes apps" in said(agent, "resume")
    assert portal.wishes == [Mode.OPEN]
    portal.wait(lambda: portal.reports[-1][1].mode is Mode.OPEN, 10, "the report of the resumption")
    third = serve()
    portal.want(first, third)
    portal.wait_for(third.lease_id, Observed.RUNNING)


def test_drain_tells_the_portal_and_then_stops_what_is_left(agent: AgentProcess, portal: FakePortal) -> None:
    wanted = serve(volume_path="/data")
    portal.want(wanted)
    portal.wait_for(wanted.lease_id, Observed.RUNNING)
    said(agent, "drain")
    portal.wait(lambda: portal.reports[-1][1].mode is Mode.DRAINING, 10, "the report of the drain")
    assert portal.status(wanted.lease_id).observed is Observed.RUNNING, "the portal has its minutes to move it"
    # As if the minutes were over and the portal had done nothing.
    file = agent.home / "mode.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "since": 0}))
    assert "drained it" in declined(portal, wanted.lease_id).message
    assert "Nothing runs here." in said(agent, "status")
    assert portal.reports[-1][1].mode is Mode.CLOSED
    assert engine.docker("volume", "ls", "-q", "--filter", f"label=io.interchain.device={portal.device_id}")


def test_the_limits_of_either_side_are_kept_here(agent: AgentProcess, portal: FakePortal) -> None:
    running = serve()
    portal.want(running, limits=Limits(memory_bytes=100 * 2**20, blocked_images=("xmrig",)))
    portal.wait_for(running.lease_id, Observed.RUNNING)
    large = serve(memory_bytes=64 * 2**20)
    evil = lease(workload(image=Image(reference="docker.io/x/xmrig@sha256:" + "a" * 64), memory_bytes=2**20))
    calls = serve(outbound=True, memory_bytes=2**23)
    portal.want(running, large, evil, calls)
    assert "memory" in declined(portal, large.lease_id).message
    assert "this image" in declined(portal, evil.lease_id).message
    assert "call out" in declined(portal, calls.lease_id).message, "the device's own file does not allow it"
    assert portal.reports[-1][1].limits.outbound is False
    # Hours that are over stop what runs, and the portal cannot talk the device out of it.
    portal.want(running, limits=Limits(hours=(Hours(0, 0, 1), Hours(3, 0, 1)), drain_minutes=0))
    assert "Outside the hours" in declined(portal, running.lease_id).message


def test_own_limits_are_typed_and_shown(agent: AgentProcess, portal: FakePortal) -> None:
    typed = said(agent, "limits", "--memory-mib", "512", "--hours", "Fri-Mon 18:00-08:00", "--outbound", "yes")
    assert typed.startswith("Saved. They hold within seconds.")
    expected = (512 * 2**20, True, 4)
    portal.wait(lambda: told(portal) == expected, 60, "a report of them, without a restart")
    shown = said(agent, "limits")
    assert "Fri 18:00-08:00, Sat 18:00-08:00, Sun 18:00-08:00, Mon 18:00-08:00" in shown
    assert "Memory                 0.5 GiB\n" in shown
    assert "Apps move away         10 minutes before the hours end\n" in shown
    assert "_" not in shown, "words, not the names of fields"
    assert json.loads(said(agent, "limits", "--json"))["memory_bytes"] == 2**29
    wrong = agent.cli("limits", "--home", str(agent.home), "--time-zone", "Mars/Base")
    assert (wrong.returncode, "IANA" in wrong.stderr) == (1, True)
    short = agent.cli("limits", "--home", str(agent.home), "--memory", "1")
    assert (short.returncode, "unrecognized arguments: --memory" in short.stderr) == (2, True), (
        "MiB or GiB? Nobody said."
    )
    agent.kill(15)
    known = len(portal.reports)
    agent.start()
    portal.wait(lambda: len(portal.reports) > known, 30, "a report since")
    assert told(portal) == expected


def told(portal: FakePortal) -> tuple[int, bool, int]:
    limits = portal.reports[-1][1].limits
    return limits.memory_bytes, limits.outbound, len(limits.hours)


def test_what_is_typed_holds_for_what_runs_without_a_restart(agent: AgentProcess, portal: FakePortal) -> None:
    calls = serve(outbound=True)
    portal.want(calls)
    assert "call out" in declined(portal, calls.lease_id).message
    said(agent, "limits", "--outbound", "yes")
    portal.wait_for(calls.lease_id, Observed.RUNNING)
    found = engine.docker("ps", "--filter", f"label=io.interchain.lease={calls.lease_id}", "--format", "{{.Labels}}")
    assert "io.interchain.bridge=ico-" in found
    (agent.home / "config.json").write_text("{ what a person mistyped")
    known = len(portal.reports)
    portal.wait(lambda: len(portal.reports) > known + 1, 60, "two reports since")
    assert portal.status(calls.lease_id).observed is Observed.RUNNING, "a damaged file changes nothing"


def test_none_may_call_out_any_more_once_that_is_typed(agent: AgentProcess, portal: FakePortal) -> None:
    said(agent, "limits", "--outbound", "yes")
    calls = serve(outbound=True)
    portal.want(calls)
    portal.wait_for(calls.lease_id, Observed.RUNNING, 60)
    said(agent, "limits", "--outbound", "no")
    assert "call out" in declined(portal, calls.lease_id).message


def test_traffic_of_apps_is_counted_for_the_month(agent: AgentProcess, portal: FakePortal) -> None:
    from nodes.agent.tests.test_life_of_a_lease import get

    wanted = serve()
    portal.want(wanted)
    status = portal.wait_for(wanted.lease_id, Observed.RUNNING)
    for _ in range(20):
        get(status.host_port)
    portal.wait(lambda: portal.reports[-1][1].load.get("transfer_month_bytes", 0) > 20 * 200, 20, "the month's traffic")
    portal.want(wanted, limits=Limits(transfer_bytes_per_month=1000))
    assert "used up" in declined(portal, wanted.lease_id).message


@pytest.mark.parametrize("text", ["Mon", "Mon 9-17", "Mon 09:00", "Noday 09:00-10:00"])
def test_hours_that_cannot_be_read_are_said(text: str) -> None:
    with pytest.raises(Exception, match="is not like"):
        owner.parse_hours(text)


def test_the_doctor_speaks_before_at_and_after_enrolment(agent: AgentProcess, portal: FakePortal) -> None:
    first, *_ = portal.checks
    assert first.token == "good", "the install command told what it found before the device had a key"
    names = {check.name for check in first.checks}
    assert {
        "docker",
        "disk",
        "clock",
        "portal",
        "outbound",
        "cgroups",
        "overlay",
        "seccomp",
        "perf",
        "firewall",
    } <= names
    portal.wait(lambda: any(not report.token for report in portal.checks), 40, "the check-up of the running agent")
    before = len(portal.checks)
    shown = said(agent, "doctor")
    assert "ok    Firewall rules keep apps off this device" in shown
    assert len(portal.checks) == before + 1


def test_every_leaving_says_why(agent: AgentProcess, portal: FakePortal) -> None:
    assert agent.process is not None
    portal.wait(lambda: any(not report.token for report in portal.checks), 40, "the check-up, which speaks for itself")
    agent.process.send_signal(signal.SIGUSR1)  # the computer is about to sleep
    portal.wait(lambda: not portal.linked, 10, "the goodbye")
    assert portal.goodbyes[-1] == (1001, "sleep")
    heard = len(portal.reports), len(portal.tokens)
    time.sleep(3)
    assert (len(portal.reports), len(portal.tokens)) == heard, "asleep, it says nothing"
    agent.process.send_signal(signal.SIGUSR2)
    portal.wait(lambda: portal.linked, 5, "the link after waking up")
    portal.wait(lambda: len(portal.reports) > heard[0], 5, "the report after waking up")
    agent.kill(signal.SIGTERM)
    portal.wait(lambda: not portal.linked, 5, "the goodbye")
    assert portal.goodbyes[-1] == (1001, "stop")
