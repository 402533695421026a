"""Where the probes run: an agent with four apps, a portal that notes when it hears from it, and what is around them."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from interchain_site.testing import docker as engine
from nodes.agent import config as configuration
from nodes.agent.config import Home
from nodes.agent.protocol import DesiredLease, Image, Observed, Profile
from nodes.agent.tests.conftest import AgentProcess, lease, running_agent, workload
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.probes import far, program
from nodes.agent.tests.probes.far import Listeners

MEMORY_BYTES = 192 * 2**20  # room for 512 processes, so that a fork bomb meets their limit and not this one
DISK_BYTES = 96 * 2**20
START_SECONDS = 60
# The agent cannot see what Docker mounts, as in a container of its own; so it cannot hold layers, and looks at them.
UNSEEING = ("unshare", "--mount", "--propagation", "private")
DOCKER0 = "172.17.0.1"
GROUPS = "/sys/fs/cgroup"
LIMITS_V1 = {
    "cgroup": f"{GROUPS}/memory",
    "memory_limit": f"{GROUPS}/memory/memory.limit_in_bytes",
    "memory_more": 2**34,
    "processes_limit": f"{GROUPS}/pids/pids.max",
    "processes_more": 9999,
    "processor_limit": f"{GROUPS}/cpu/cpu.cfs_quota_us",
    "processor_more": 400_000,
}
LIMITS_V2 = {
    **LIMITS_V1,
    "cgroup": GROUPS,
    "memory_limit": f"{GROUPS}/memory.max",
    "processes_limit": f"{GROUPS}/pids.max",
    "processor_limit": f"{GROUPS}/cpu.max",
}
# What each app is started as; all of them have a volume. Half a core of two is left for a test's own.
APPS: dict[str, dict[str, Any]] = {
    "restricted": {"profile": Profile.RESTRICTED, "cpu_millis": 250},
    "baseline": {"profile": Profile.BASELINE},
    "outbound": {"profile": Profile.BASELINE, "outbound": True, "cpu_millis": 250},
    "neighbour": {"profile": Profile.BASELINE},
}


@dataclass(frozen=True)
class Answer:
    """How a probe ended: "done", or the errno it was refused with; and what it printed."""

    outcome: str
    text: str


class Gone(Exception):
    """The app did not answer: it was killed, or has no process left to answer with."""


@dataclass(frozen=True)
class App:
    """One lease of the probes' image."""

    lease: DesiredLease
    host_port: int

    @property
    def container(self) -> str:
        return f"interchain-{self.lease.lease_id}"

    def ask(self, *words: str, seconds: float = 30) -> Answer:
        """Have the app try a probe, as a child of the app's own process.

        Raises:
            Gone: no answer.
        """
        try:
            address = f"http://127.0.0.1:{self.host_port}/cgi-bin/probe?{'&'.join(words)}"
            with urllib.request.urlopen(address, timeout=seconds) as response:
                text = response.read().decode().strip()
        except (OSError, ValueError) as error:
            raise Gone(f"{' '.join(words)}: {error}") from error
        if not text:
            raise Gone(f"{' '.join(words)}: no answer")
        return Answer(text.splitlines()[-1].rpartition(": ")[2], text)

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Wait until it answers again, when the agent has started it anew."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.ask("is-root", seconds=5)
                return
            except Gone:
                assert time.monotonic() < deadline, "the app does not come back"
                time.sleep(0.2)

    def inspect(self, template: str) -> str:
        return engine.docker("inspect", "-f", template, self.container)

    def label(self, name: str) -> str:
        return self.inspect(f'{{{{index .Config.Labels "io.interchain.{name}"}}}}')

    @property
    def pid(self) -> int:
        return int(self.inspect("{{.State.Pid}}"))

    @property
    def volume(self) -> Path:
        return Path(self.inspect("{{(index .Mounts 0).Source}}"))

    @property
    def layer(self) -> Path:
        """The file its writable layer lies in."""
        folder = Path(engine.docker("info", "-f", "{{.DockerRootDir}}")) / "interchain"
        (found,) = folder.glob(f"*layer-{self.lease.lease_id}.img")
        return found

    @property
    def upper(self) -> str:
        """Where Docker keeps its writable layer, as the kernel has it."""
        for line in Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines():
            if line.split()[4] == "/":
                return line.partition("upperdir=")[2].partition(",")[0]
        raise AssertionError("it has no root")

    def cgroup(self, controller: str, name: str) -> Path:
        """Return the host's own file of a control group of the container: v1 has a tree for each controller, v2 one for all."""
        for line in Path(f"/proc/{self.pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                return Path("/sys/fs/cgroup") / controllers / path.lstrip("/") / name
        unified = Path(f"/proc/{self.pid}/cgroup").read_text().strip().rpartition(":")[2]
        return Path("/sys/fs/cgroup") / unified.lstrip("/") / name


class NotingPortal(FakePortal):
    """Notes when the agent asked for what."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[float, str]] = []

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        self.heard.append((time.monotonic(), path))
        return super().answer(method, path, headers, body)


@dataclass
class Scene:
    """Everything a probe may be about."""

    agent: AgentProcess
    portal: NotingPortal
    listeners: Listeners
    bystander: "subprocess.Popen[bytes]"  # an ordinary process of the device
    canary: Path  # a file of the device
    secret: str  # in the agent's and the bystander's environment
    abstract: str
    apps: dict[str, App] = field(default_factory=dict)
    device_ports: dict[str, int] = field(default_factory=dict)
    _values: dict[str, dict[str, object]] = field(default_factory=dict)

    def run(self, *leases: DesiredLease) -> list[App]:
        """Start leases beside those that run; returns them once they are well."""
        kept = [app.lease for app in self.apps.values()]
        self.portal.want(*kept, *leases)
        return [self._running(one) for one in leases]

    def _running(self, one: DesiredLease) -> App:
        return App(one, self.portal.wait_for(one.lease_id, Observed.RUNNING, START_SECONDS).host_port)

    def values(self, name: str) -> dict[str, object]:
        """Return what the braces in a probe's words stand for, for one app."""
        if name not in self._values:
            self._values[name] = self._look_up(name)
        return self._values[name]

    def _look_up(self, name: str) -> dict[str, object]:
        app, neighbour = self.apps[name], self.apps["neighbour"]
        gateway = ipaddress.IPv4Address(app.label("address")) - 1
        return {
            "pid": self.bystander.pid,
            "canary": self.canary.name,
            "secret": f"{self.secret[:20]} {self.secret[20:]}",
            "abstract": self.abstract,
            "gateway": gateway,
            "broadcast": gateway + 6,
            "device": own_address(),
            "lan": far.LAN,
            "link_local": far.LINK_LOCAL,
            "metadata": far.METADATA,
            "public": far.PUBLIC,
            "docker0": DOCKER0,
            "init": "/sbin/docker-init",
            **(LIMITS_V2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else LIMITS_V1),
            "neighbour": neighbour.label("address"),
            "neighbour_port": neighbour.host_port,
            **self.device_ports,
        }


def own_lease(**changes: object) -> DesiredLease:
    """Return a lease of the probes' image with a volume and room for bombs."""
    values: dict[str, object] = {
        "image": Image(reference=program.image()),
        "memory_bytes": MEMORY_BYTES,
        "disk_bytes": DISK_BYTES,
        "volume_path": "/data",
    }
    return lease(workload(**{**values, **changes}))


@contextmanager
def scene(folder: Path, wrapper: "tuple[str, ...]" = ()) -> Iterator[Scene]:
    """An agent whose owner allows outbound traffic, and the four apps, all of them well.

    Args:
        wrapper: what the agent is started with.
    """
    secret, abstract = f"interchain-secret-{secrets.token_hex(8)}", f"interchain-probe-{secrets.token_hex(8)}"
    canary = folder / f"canary-{secrets.token_hex(8)}"
    canary.write_text("untouched")
    with ExitStack() as stack:
        listeners = Listeners()
        stack.callback(listeners.stop)
        stack.enter_context(far.far_host(listeners))
        stack.enter_context(_environment(INTERCHAIN_PROBE_SECRET=secret))
        bystander = subprocess.Popen(["sleep", "3600"])
        stack.callback(bystander.wait)
        stack.callback(bystander.kill)
        portal = stack.enter_context(NotingPortal())
        agent = stack.enter_context(running_agent(portal, folder, wrapper))
        built = Scene(agent, portal, listeners, bystander, canary, secret, abstract)
        built.device_ports = _device_services(listeners, abstract, portal)
        allow_outbound(agent)
        leases = {name: own_lease(**how) for name, how in APPS.items()}
        built.apps = dict(zip(leases, built.run(*leases.values()), strict=True))
        yield built


def allow_outbound(agent: AgentProcess) -> None:
    home = Home(agent.home)
    configuration.save(home, replace(configuration.load(home), allow_outbound=True, dns_servers=(far.PUBLIC,)))
    agent.kill()
    agent.start()


def own_address() -> str:
    """Return the device's own address on the network it reaches the far host by."""
    return "203.0.113.129"


def _device_services(listeners: Listeners, abstract: str, portal: FakePortal) -> dict[str, int]:
    """Listen on every address of the device, on its loopback as databases do, and for packets."""
    listeners.add_abstract("device abstract", abstract)
    return {
        "tcp_port": listeners.add("device tcp", socket.SOCK_STREAM, ("0.0.0.0", 0)),
        "udp_port": listeners.add("device udp", socket.SOCK_DGRAM, ("0.0.0.0", 0)),
        "udp6_port": listeners.add("device udp6", socket.SOCK_DGRAM, ("::", 0), socket.AF_INET6),
        "portal_port": int(portal.url.rpartition(":")[2]),
    }


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
