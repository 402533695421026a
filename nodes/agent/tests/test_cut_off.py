"""A real device with a real container, cut off by the kernel (iptables DROP): it ends its apps by itself, starts them again when it is
back and they are still wanted, and what was moved away meanwhile does not run on."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import keys, peer_http, records
from nodes.agent.protocol import Action, DesiredLease, Image, Observed
from nodes.agent.records import DirectoryDelta
from nodes.agent.tests.conftest import AgentProcess, lease, running_agent, workload
from nodes.agent.tests.portal import FakePortal

pytestmark = pytest.mark.docker
SELF_STOP, POLL = 6, 1
RETURN_SECONDS = 10.0  # after it is back a device runs a stale copy no longer
PATIENCE = 90.0


BOTH_WAYS, ANSWERS = ("dport", "sport"), ("sport",)


@contextmanager
def cut(*ports: int, ways: "tuple[str, ...]" = BOTH_WAYS) -> Iterator[None]:
    """Let what goes to and comes from these ports vanish, without a word to either side."""
    rules = [["INPUT", "-p", "tcp", f"--{end}", str(port), "-j", "DROP"] for port in ports for end in ways]
    for rule in rules:
        subprocess.run(["iptables", "-w", "-I", *rule], check=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "-w", "-D", *rule], check=True)


def ports_of(portal: FakePortal) -> "tuple[int, int]":
    return urlsplit(portal.url).port or 0, urlsplit(portal.link_url).port or 0


def runs(wanted: DesiredLease) -> bool:
    return bool(engine.docker("ps", "-q", "--filter", f"name=interchain-{wanted.lease_id}"))


def eventually(condition: "Callable[[], object]", what: str, seconds: float = PATIENCE) -> float:
    """Wait for the condition; return how many seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not in {seconds:g} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - began


def starts_since(moment: float, wanted: DesiredLease) -> str:
    """Return the Engine's own record of this lease's containers that were started since a moment (seconds of 1970)."""
    chosen = ["--filter", f"label=io.interchain.lease={wanted.lease_id}", "--filter", "event=start"]
    return engine.docker("events", "--since", f"{moment:.3f}", "--until", f"{time.time():.3f}", *chosen)


@dataclass
class Cloud:
    """A device that runs an app, its portal, and the port of another device's directory."""

    agent: AgentProcess
    portal: FakePortal
    wanted: DesiredLease
    peer_port: int


def start_app(portal: FakePortal) -> DesiredLease:
    """Let an app run that ends when it is told to."""
    command = "httpd -p 8080 -h /www; trap exit TERM; while :; do sleep 0.2; done"
    wanted = lease(workload(image=Image(reference=engine.image(command))))
    portal.want(wanted)
    portal.wait_for(wanted.lease_id, Observed.RUNNING, PATIENCE)
    return wanted


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, docker_engine: None) -> Iterator[Cloud]:
    """Two devices, each at a portal of its own, of which the first has heard the second."""
    tmp_path = tmp_path_factory.mktemp("cloud")
    key = keys.create(tmp_path / "directory.key")
    now = int(time.time())
    said = records.sign(records.Record("known", "w", 1, ("192.0.2.1:80",), 1, now, now + 3600, (1,), (0,)), key)
    with FakePortal() as portal, FakePortal() as peers_portal:
        peers_portal.directory = DirectoryDelta(1, key=key.public_x, records=(said,))
        for one in ("device", "peer"):
            (tmp_path / one).mkdir()
        with running_agent(peers_portal, tmp_path / "peer"):
            peer_port = _directory(peers_portal)
            portal.directory = DirectoryDelta(1, key=key.public_x, peers=(f"127.0.0.1:{peer_port}",))
            portal.want(self_stop_seconds=SELF_STOP, poll_interval_seconds=POLL)
            with running_agent(portal, tmp_path / "device") as agent:
                wanted = start_app(portal)
                ours = f"127.0.0.1:{_directory(portal)}"
                # The record is only at the other device's portal, so it came over from that device.
                eventually(lambda: peer_http.ask(ours, "/directory/known"), "the device has heard the other")
                yield Cloud(agent, portal, wanted, peer_port)


def _directory(portal: FakePortal) -> int:
    port = portal.wait(lambda: portal.reports and portal.reports[-1][1].directory_port, 30, "a port of the directory")
    return int(port)


@pytest.mark.parametrize("seconds", [4, 20])
def test_frozen_and_back_before_another_was_chosen_it_starts_nothing_anew(cloud: Cloud, seconds: int) -> None:
    """While it was frozen nobody could answer it, which is no reason to think that nobody does."""
    assert cloud.agent.process is not None
    began = time.time()
    cloud.agent.process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    assert runs(cloud.wanted)
    cloud.agent.process.send_signal(signal.SIGCONT)
    known = len(cloud.portal.reports)
    cloud.portal.wait(lambda: len(cloud.portal.reports) > known, PATIENCE, "a report after the freeze")
    time.sleep(2 * POLL)
    assert runs(cloud.wanted)
    assert starts_since(began, cloud.wanted) == ""
    assert "can be reached" not in cloud.agent.log


def test_cut_off_from_the_portal_alone_it_learns_so_from_its_peer(
    cloud: Cloud,
) -> None:
    with cut(*ports_of(cloud.portal), ways=ANSWERS):  # one way: what it sends arrives, and nothing comes back
        eventually(lambda: not runs(cloud.wanted), "it stops its app")
        assert "Other devices reach the portal, and this one does not." in cloud.agent.log
    eventually(lambda: runs(cloud.wanted), "back and still chosen")


def test_cut_off_from_everybody_it_stops_and_comes_back(
    cloud: Cloud,
) -> None:
    agent, portal, wanted = cloud.agent, cloud.portal, cloud.wanted
    began = time.time()
    with cut(*ports_of(portal), cloud.peer_port):
        took = eventually(lambda: not runs(wanted), "it stops its app")
        assert took >= SELF_STOP - 2 * POLL, "not before its time: the portal may only be slow"
        agent.kill()
        agent.start_without_portal()
        time.sleep(5)
        assert not runs(wanted), "started again, the agent still knows that it must not"
        assert starts_since(began, wanted) == ""
    eventually(lambda: runs(wanted), "back and still chosen")
    portal.wait_for(wanted.lease_id, Observed.RUNNING, PATIENCE)

    with cut(*ports_of(portal), cloud.peer_port):
        eventually(lambda: not runs(wanted), "it stops its app")
        portal.want(lease(wanted.workload, action=Action.STOP, lease_id=wanted.lease_id), look=False)
        chosen_no_more = time.time()
    portal.wait_for(wanted.lease_id, Observed.STOPPED, PATIENCE)
    assert starts_since(chosen_no_more, wanted) == "", "back, and another was chosen"


@pytest.mark.parametrize("how", ["cut", "frozen"])
def test_back_it_runs_a_stale_copy_no_longer(agent: AgentProcess, portal: FakePortal, how: str) -> None:
    """A device that knows no peer goes on while it is cut off, and a frozen agent stops nothing."""
    wanted = start_app(portal)
    stopped = lease(wanted.workload, action=Action.STOP, lease_id=wanted.lease_id)
    assert agent.process is not None
    if how == "frozen":
        agent.process.send_signal(signal.SIGSTOP)
        portal.want(stopped, look=False)
        time.sleep(8)
        assert runs(wanted)
        agent.process.send_signal(signal.SIGCONT)
    else:
        with cut(*ports_of(portal)):
            portal.want(stopped, look=False)
            time.sleep(12)
            assert runs(wanted)
    assert eventually(lambda: not runs(wanted), "the stale copy ends") < RETURN_SECONDS
