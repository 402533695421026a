"""A network kept ready: an app that joins it starts, is reached, comes back and goes as one with a network of its own."""

from __future__ import annotations

import signal
import struct
import time
import urllib.error
import urllib.request

import pytest

from interchain_site.testing import docker as engine
from nodes.agent.holders import _PROGRAMS, _elf
from nodes.agent.protocol import DesiredLease, Image, Observed, Status
from nodes.agent.tests.conftest import AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal

SERVE = "httpd -f -p {0} -h /www"


def get(port: int) -> str:
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read().decode()


def answers(portal: FakePortal, port: int) -> None:
    def hello() -> bool:
        try:
            return "hello" in get(port)
        except OSError:
            return False

    portal.wait(hello, 30, f"an answer at {port}")


def spare(portal: FakePortal) -> str:
    """Return the name of the spare holder, waiting for it."""
    mine = ["--filter", f"label=io.interchain.device={portal.device_id}"]

    def ready() -> str:
        names = engine.docker("ps", "--format", "{{.Names}}", *mine, "--filter", "label=io.interchain.holder").split()
        return next((name for name in names if name.startswith("icn-")), "")

    return portal.wait(ready, 30, "a spare network")


def begin(portal: FakePortal, port: int = 8080, **changes: object) -> tuple[DesiredLease, Status]:
    image = Image(reference=engine.image(SERVE.format(port)))
    wanted = lease(workload(image=image, port=port, **changes))
    portal.want(*portal.desired.leases, wanted)
    return wanted, portal.wait_for(wanted.lease_id, Observed.RUNNING)


def holder_of(wanted: DesiredLease) -> str:
    return f"interchain-network-{wanted.lease_id}"


def mode(wanted: DesiredLease) -> str:
    return engine.docker("inspect", "-f", "{{.HostConfig.NetworkMode}}", f"interchain-{wanted.lease_id}")


@pytest.mark.docker
@pytest.mark.parametrize("port", [80, 8080, 1])
def test_an_app_joins_the_spare_whatever_its_port(agent: AgentProcess, portal: FakePortal, port: int) -> None:
    ready = spare(portal)
    wanted, status = begin(portal, port)
    assert mode(wanted).startswith("container:")
    assert "hello" in get(status.host_port)
    labels = engine.docker("inspect", "-f", "{{json .Config.Labels}}", f"interchain-{wanted.lease_id}")
    assert ready in labels
    assert spare(portal) != ready
    portal.want()
    portal.wait(lambda: ready not in engine.docker("network", "ls", "--format", "{{.Name}}"), 20, "its network is gone")
    with pytest.raises(urllib.error.URLError):
        get(status.host_port)


@pytest.mark.docker
def test_two_at_once_both_run(agent: AgentProcess, portal: FakePortal) -> None:
    spare(portal)
    image = Image(reference=engine.image(SERVE.format(8080)))
    both = [lease(workload(image=image)) for _ in range(2)]
    portal.want(*both)
    for wanted in both:
        assert "hello" in get(portal.wait_for(wanted.lease_id, Observed.RUNNING).host_port)
    assert sorted(mode(wanted).startswith("container:") for wanted in both) == [False, True]


@pytest.mark.docker
def test_it_comes_back_where_it_was(agent: AgentProcess, portal: FakePortal) -> None:
    """Whatever died of the two: the app, its holder, both with the agent, or the app's container altogether."""
    spare(portal)
    wanted, status = begin(portal)
    for casualties in (
        ["kill", f"interchain-{wanted.lease_id}"],
        ["kill", holder_of(wanted)],
        ["kill", f"interchain-{wanted.lease_id}", holder_of(wanted)],
        ["rm", "-f", f"interchain-{wanted.lease_id}"],
    ):
        engine.docker(*casualties)
        answers(portal, status.host_port)
        portal.wait_for(wanted.lease_id, Observed.RUNNING)
    agent.kill(signal.SIGKILL)
    engine.docker("kill", f"interchain-{wanted.lease_id}", holder_of(wanted))
    agent.start()
    answers(portal, status.host_port)


@pytest.mark.docker
def test_a_network_without_its_app_is_cleared_away(agent: AgentProcess, portal: FakePortal) -> None:
    spare(portal)
    wanted, _ = begin(portal)
    agent.kill(signal.SIGKILL)
    engine.docker("rm", "-f", f"interchain-{wanted.lease_id}")
    portal.want()
    agent.start()
    portal.wait(lambda: holder_of(wanted) not in engine.docker("ps", "-a", "--format", "{{.Names}}"), 20, "it is gone")


@pytest.mark.docker
def test_a_spare_that_died_is_not_used(agent: AgentProcess, portal: FakePortal) -> None:
    ready = spare(portal)
    engine.docker("rm", "-f", ready)
    time.sleep(0.2)
    wanted, status = begin(portal)
    assert "hello" in get(status.host_port)
    assert not mode(wanted).startswith("container:")


@pytest.mark.parametrize("machine", sorted(_PROGRAMS))
def test_the_program_is_a_whole_executable(machine: str) -> None:
    number, code = _PROGRAMS[machine]
    program = _elf(number, code)
    kind, at, _, entry = struct.unpack_from("<HHIQ", program, 16)
    loads, flags, offset, address, _, in_file, in_memory, align = struct.unpack_from("<IIQQQQQQ", program, 64)
    assert (kind, at, loads, flags, offset) == (2, number, 1, 5, 0)
    assert program[entry - address :] == code
    assert in_file == in_memory == len(program)
    assert address % align == 0
