"""An app with so many files that counting them takes long: it stands still meanwhile if it is the one that fills the disk, and only then."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from interchain_site.testing.docker import docker
from nodes.agent import holdings
from nodes.agent.freezer import Freezer
from nodes.agent.protocol import DesiredLease, Observed, Reason
from nodes.agent.reconcile import Seen
from nodes.agent.tests.conftest import AgentProcess
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.probes.scene import START_SECONDS, App, Gone, own_lease

pytestmark = pytest.mark.docker
MB = 2**20
FILES = 100_000  # so that a slow computer looks at them for longer than `frozen_look.SLOW_SECONDS`
LITTLE, PLENTY = 144 * MB, 2048 * MB  # of which the files alone count as 102 MB


def state(app: App) -> str:
    """Return what the kernel says of the cgroup the agent freezes, "" once there is none."""
    with suppress(OSError):
        v1 = Path(f"/sys/fs/cgroup/freezer/interchain/{app.lease.lease_id}/freezer.state")
        return v1.read_text().strip() if v1.exists() else _state_v2(app)
    return ""


def _state_v2(app: App) -> str:
    events = Path(f"/sys/fs/cgroup/interchain/{app.lease.lease_id}/cgroup.events").read_text()
    return "FROZEN" if "frozen 1" in events.splitlines() else "THAWED"


@dataclass
class Watched:
    """What was seen of an app, every few milliseconds."""

    states: "list[str]" = field(default_factory=list)
    grown_while_frozen: int = 0  # bytes the disk lost from one look to the next, the app standing still at both


@contextmanager
def watched(app: App) -> Iterator[Watched]:
    found, over = Watched(), threading.Event()
    disk = docker("info", "-f", "{{.DockerRootDir}}")

    def look() -> None:
        before = "", 0
        while not over.wait(0.005):
            now = state(app), holdings.room(disk)
            if (before[0], now[0]) == ("FROZEN", "FROZEN"):
                found.grown_while_frozen += max(0, before[1] - now[1])
            found.states.append(now[0])
            before = now

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join(20)


def started(portal: FakePortal, *leases: DesiredLease) -> "list[App]":
    portal.want(*leases)
    return [App(one, portal.wait_for(one.lease_id, Observed.RUNNING, START_SECONDS).host_port) for one in leases]


@contextmanager
def slow_computer(agent: AgentProcess) -> Iterator[None]:
    """The agent runs a quarter of the time, as cpulimit does it: what it counts takes four times as long."""
    over = threading.Event()

    def hold_back() -> None:
        assert agent.process is not None
        while not over.wait(0.01):
            agent.process.send_signal(signal.SIGSTOP)
            over.wait(0.03)
            agent.process.send_signal(signal.SIGCONT)

    thread = threading.Thread(target=hold_back)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(20)


def test_who_fills_the_disk_stands_still_while_its_many_files_are_counted(
    agent: AgentProcess, portal: FakePortal
) -> None:
    limits = (PLENTY, LITTLE)
    quiet, app = started(
        portal, *(own_lease(volume_path="", disk_bytes=disk_bytes, cpu_millis=900) for disk_bytes in limits)
    )
    for one in (quiet, app):
        one.ask("empty-files", "/tmp", str(FILES), seconds=120)
    with slow_computer(agent), watched(quiet) as beside, watched(app) as seen:
        app.ask("flood", "/www", "100000")
        status = portal.wait_for(app.lease.lease_id, Observed.FAILED, 120)
    assert status.reason is Reason.OUT_OF_DISK, status.message
    assert "FROZEN" in seen.states
    assert seen.grown_while_frozen < 16 * MB, "others' logs, and the agent's own files"
    assert set(beside.states) == {"THAWED"}, "it has much left, so it cannot be the one"
    assert quiet.ask("is-root").text


def test_an_agent_that_was_killed_leaves_no_app_frozen(agent: AgentProcess, portal: FakePortal) -> None:
    (app,) = started(portal, own_lease())
    agent.kill()
    # As an agent that was killed leaves it.
    assert Freezer().freeze(Seen(app.lease.lease_id, 1, "", app.inspect("{{.Id}}"), running=True, pid=app.pid))
    with pytest.raises(Gone):
        app.ask("is-root", seconds=2)
    agent.start()
    app.wait()
    assert state(app) == "THAWED"
