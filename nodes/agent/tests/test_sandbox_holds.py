"""What a stranger's program can do on a device, tried from inside a real container."""

from __future__ import annotations

import http.server
import ipaddress
import os
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import config as configuration
from nodes.agent.config import Home
from nodes.agent.firewall import Firewall
from nodes.agent.protocol import Image, Observed, Profile, Reason, Status
from nodes.agent.tests.conftest import AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal

pytestmark = [pytest.mark.docker, pytest.mark.one_agent]


SERVE = "httpd -f -p 8080 -h /www"


def run(portal: FakePortal, *others: object, **changes: object) -> tuple[str, Status]:
    """Start a lease; returns its container's name and its status."""
    wanted = lease(workload(**{"image": Image(reference=engine.image(SERVE)), **changes}))
    portal.want(*others, wanted)  # type: ignore[arg-type]
    return f"interchain-{wanted.lease_id}", portal.wait_for(wanted.lease_id, Observed.RUNNING)


def inside(container: str, command: str) -> tuple[int, str]:
    """Run a command in the container, as its own user and with its own rights."""
    done = subprocess.run(
        ["docker", "exec", container, "/bin/sh", "-c", command], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def process_1(container: str) -> dict[str, str]:
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", container)
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def test_baseline_has_six_capabilities_and_cannot_gain_more(agent: AgentProcess, portal: FakePortal) -> None:
    container, _ = run(portal)
    status = process_1(container)
    six = sum(1 << bit for bit in (0, 1, 3, 6, 7, 10))  # CHOWN DAC_OVERRIDE FOWNER SETGID SETUID NET_BIND_SERVICE
    assert int(status["CapBnd"], 16) == six
    assert int(status["CapEff"], 16) == six
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert inside(container, "ping -c1 -W1 127.0.0.1")[0] != 0, "no raw sockets"
    assert inside(container, "mknod /tmp/disk b 8 0")[0] != 0, "no device nodes"
    assert inside(container, "mount -t tmpfs none /tmp")[0] != 0
    assert inside(container, "echo ok > /www/new")[0] == 0, "ordinary images may write"


def test_restricted_writes_nowhere_but_tmp_and_its_volume(agent: AgentProcess, portal: FakePortal) -> None:
    container, _ = run(portal, profile=Profile.RESTRICTED, volume_path="/data")
    status = process_1(container)
    assert int(status["CapBnd"], 16) == 0
    assert status["Uid"].split()[0] == "65532"
    assert inside(container, "echo x > /www/new")[0] != 0
    assert inside(container, "echo x > /tmp/new")[0] == 0
    assert inside(container, "echo x > /data/new")[0] == 0
    assert inside(container, "printf '#!/bin/sh' > /tmp/run; chmod +x /tmp/run; /tmp/run")[0] != 0, "tmp is noexec"


def test_memory_processes_and_files_have_a_cap(agent: AgentProcess, portal: FakePortal) -> None:
    container, _ = run(portal, memory_bytes=128 * 2**20)
    found = engine.docker(
        "inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}}", container
    )
    assert found == f"{128 * 2**20} {128 * 2**20} 512"
    code, _ = inside(container, "head -c 300m /dev/zero | tail > /dev/null")
    assert code != 0
    _, output = inside(container, "ulimit -f -c -n")
    assert [line.split()[-1] for line in output.splitlines()] == ["131072", "0", "16384"], (
        "512-byte blocks, no core files"
    )
    code, output = inside(container, "i=0; while [ $i -lt 600 ]; do sleep 60 & i=$((i+1)); done")
    assert "an't fork" in output


@pytest.fixture
def device_service() -> Iterator[int]:
    """Something that listens on every address of this device."""
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def reaches(container: str, host: str, port: int) -> bool:
    return inside(container, f"nc -w 2 {host} {port} < /dev/null")[0] == 0


def label_of(container: str, name: str) -> str:
    return engine.docker("inspect", "-f", f'{{{{index .Config.Labels "io.interchain.{name}"}}}}', container)


def gateway_of(container: str) -> str:
    """Return the device's own address on the container's bridge."""
    return str(ipaddress.IPv4Address(label_of(container, "address")) - 1)


def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "172.17.0.1"


@pytest.mark.parametrize("outbound", [False, True])
def test_the_device_its_network_and_its_neighbours_are_out_of_reach(
    agent: AgentProcess, portal: FakePortal, device_service: int, outbound: bool
) -> None:
    allow_outbound(agent, outbound)
    other = lease(workload(image=Image(reference=engine.image(SERVE))))
    container, status = run(portal, other, outbound=outbound)
    neighbour = portal.wait_for(other.lease_id, Observed.RUNNING)
    gateway = gateway_of(container)
    theirs = label_of(f"interchain-{other.lease_id}", "address")
    assert label_of(container, "bridge").startswith("ico-" if outbound else "icn-")
    for host, port in (
        (gateway, device_service),
        (own_address(), device_service),
        ("172.17.0.1", device_service),
        (theirs, 8080),
        (own_address(), neighbour.host_port),
        (gateway, neighbour.host_port),
    ):
        assert not reaches(container, host, port), f"{host}:{port} must be out of reach"
    assert urllib.request.urlopen(f"http://127.0.0.1:{status.host_port}/", timeout=5).status == 200


@pytest.mark.parametrize("outbound", [False, True])
def test_the_agents_own_ports_are_out_of_reach(agent: AgentProcess, portal: FakePortal, outbound: bool) -> None:
    """The directory answers strangers on every address of the device, but not the programs of strangers that run on it."""
    configure(agent, allow_outbound=outbound, publish_address="0.0.0.0")
    try:
        container, status = run(portal, outbound=outbound)
        ports = listening(agent)
        directory = portal.wait(lambda: portal.reports[-1][1].directory_port, 30, "where the directory is served")
        assert directory in ports
        own = [address for address in (gateway_of(container), own_address(), "172.17.0.1") if has(address)]
        assert len(own) >= 2
        for port in sorted({*ports, status.host_port}):
            for address in own:
                with socket.create_connection((address, port), timeout=5):
                    pass  # from the device itself it can be reached, so that the next line says something
                assert not reaches(container, address, port), f"{address}:{port} must be out of reach"
    finally:
        configure(agent, publish_address="127.0.0.1")


def listening(agent: AgentProcess) -> set[int]:
    """Return every TCP port on which the agent's process listens."""
    assert agent.process is not None
    ours = set()
    for entry in Path(f"/proc/{agent.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            ours.add(os.readlink(entry))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{agent.process.pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in ours:
                found.add(int(words[1].rpartition(":")[2], 16))
    return found


def has(address: str) -> bool:
    """Whether this device has the address."""
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
        return True


def configure(agent: AgentProcess, **settings: object) -> None:
    home = Home(agent.home)
    known = configuration.load(home)
    changed = replace(known, **settings)  # type: ignore[arg-type]
    if changed != known:
        configuration.save(home, changed)
        agent.kill()
        agent.start()


def allow_outbound(agent: AgentProcess, allowed: bool) -> None:
    configure(agent, allow_outbound=allowed)


@pytest.fixture
def far_away() -> Iterator[tuple[str, str, int]]:
    """A host behind this device that is not its own address: a network namespace, reached by routing. (public, LAN, port)."""

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    ip("netns", "add", "icfar")
    try:
        ip("link", "add", "icfar0", "type", "veth", "peer", "name", "eth0", "netns", "icfar")
        ip("link", "set", "icfar0", "up")
        for net in ("203.0.113", "192.168.77"):
            ip("addr", "add", f"{net}.1/24", "dev", "icfar0")
            ip("-n", "icfar", "addr", "add", f"{net}.2/24", "dev", "eth0")
        ip("-n", "icfar", "link", "set", "eth0", "up")
        ip("-n", "icfar", "link", "set", "lo", "up")
        ip("-n", "icfar", "route", "add", "default", "via", "203.0.113.1")
        server = subprocess.Popen(["ip", "netns", "exec", "icfar", "busybox", "httpd", "-f", "-p", "8099"])
        time.sleep(0.3)
        yield "203.0.113.2", "192.168.77.2", 8099
        server.kill()
        server.wait()
    finally:
        subprocess.run(["ip", "link", "del", "icfar0"], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", "icfar"], check=False, capture_output=True)


def test_outbound_is_off_unless_asked_and_allowed(
    agent: AgentProcess, portal: FakePortal, far_away: tuple[str, str, int]
) -> None:
    public, lan, port = far_away
    allow_outbound(agent, False)
    asking = lease(workload(image=Image(reference=engine.image(SERVE)), outbound=True))
    portal.want(asking)
    status = portal.wait_for(asking.lease_id, Observed.FAILED)
    assert status.reason is Reason.DECLINED, "the release asks, but the owner has not allowed it: it never starts here"
    assert not engine.docker("ps", "-aq", "--filter", f"label=io.interchain.lease={asking.lease_id}")
    portal.want()
    allow_outbound(agent, True)
    container, _ = run(portal, outbound=False)
    assert not reaches(container, public, port), "the owner allows it, but the release does not ask"
    container, _ = run(portal, outbound=True)
    assert reaches(container, public, port), "asked and allowed"
    assert not reaches(container, lan, port), "never the owner's own network"


def test_no_name_is_looked_up_from_a_closed_app(agent: AgentProcess, portal: FakePortal) -> None:
    """Docker's own resolver would ask the device's, and so carry data out in names."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.bind(("127.0.0.1", 53))
        resolver.settimeout(0.1)
        container, _ = run(portal)
        assert inside(container, "nslookup exfiltrated.example.com")[0] != 0
        with pytest.raises(TimeoutError):
            resolver.recv(512)


def test_rules_that_somebody_removed_come_back(agent: AgentProcess, portal: FakePortal, device_service: int) -> None:
    container, _ = run(portal)
    gateway = gateway_of(container)
    subprocess.run(["iptables", "-F", "INTERCHAIN-INPUT"], check=True)
    assert reaches(container, gateway, device_service)
    assert Firewall().ensure()
    assert not reaches(container, gateway, device_service)
    subprocess.run(["iptables", "-D", "DOCKER-USER", "-j", "INTERCHAIN-FORWARD"], check=True)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        rules = subprocess.run(["iptables", "-S", "DOCKER-USER"], check=True, capture_output=True, text=True).stdout
        if "INTERCHAIN-FORWARD" in rules:
            return
        time.sleep(0.3)
    pytest.fail("the agent did not put its rules back")
