"""A portal, an enrolled agent as a real process, and an Engine with small images."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import sandbox, volume_files
from nodes.agent.counters import Counters
from nodes.agent.engine import Engine
from nodes.agent.protocol import Action, DesiredLease, HealthCheck, Image, Meter, Workload
from nodes.agent.tests import leftovers
from nodes.agent.tests.portal import FakePortal

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _real_redis() -> None:
    """The agent knows no Redis; this replaces the site's fixture of the same name."""


@pytest.fixture
def portal(request: pytest.FixtureRequest) -> Iterator[FakePortal]:
    if request.node.get_closest_marker("one_agent"):
        yield request.getfixturevalue("shared_portal")
        return
    with FakePortal() as running:
        yield running


@pytest.fixture(scope="session")
def docker_engine() -> None:
    if not engine.engine_answers():
        pytest.skip("needs a Docker Engine; start one with: dockerd &")


def workload(**changes: object) -> Workload:
    values: dict[str, object] = {
        "id": str(uuid.uuid4()),
        "name": "blog",
        "image": Image(reference="sha256:" + "0" * 64),
        "port": 8080,
        "memory_bytes": 64 * 2**20,
        "cpu_millis": 500,
        "disk_bytes": 64 * 2**20,
        "health": HealthCheck(kind="http", path="/", interval_seconds=1, start_seconds=20),
    }
    return Workload(**{**values, **changes})  # type: ignore[arg-type]


def lease(what: Workload, *, action: Action = Action.RUN, generation: int = 1, lease_id: str = "") -> DesiredLease:
    return DesiredLease(lease_id or str(uuid.uuid4()), generation, action, what)


def counted_by_the_kernel(portal: FakePortal, lease_id: str) -> int:
    """Return the instructions the kernel has counted for a lease so far, at the rate the device enrolled with."""
    used = Counters().cpu_nanoseconds(lease_id, 0)
    assert used is not None
    assert portal.enrolment is not None
    return used.value * portal.enrolment.benchmark.instructions_per_second // 10**9


def told_in_full(portal: FakePortal, lease_id: str, seconds: float = 120) -> None:
    """Nothing is lost and nothing is twice: the total told next lies between what the kernel has counted before and after."""
    least, known = counted_by_the_kernel(portal, lease_id), len(portal.readings)

    def reported() -> int:
        new = [item for item in portal.readings[known:] if item.lease_id == lease_id and item.meter is Meter.COMPUTE]
        return min((item.total for item in new if item.total >= least), default=0)

    told = portal.wait(reported, seconds, "a reading with all that was used")
    assert told <= counted_by_the_kernel(portal, lease_id)


@dataclass
class AgentProcess:
    """`python -m nodes.agent` as its owner starts it."""

    home: Path
    portal: FakePortal
    process: "subprocess.Popen[bytes] | None" = None
    engine: str = "unix:///var/run/docker.sock"
    wrapper: "list[str]" = field(default_factory=list)  # what it is started with
    environment: dict[str, str] = field(default_factory=lambda: {**os.environ, "PYTHONPATH": str(ROOT)})

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nodes.agent", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=self.environment, cwd=self.home.parent, check=False
        )

    def enrol(self) -> None:
        done = self.cli(
            "enrol",
            "--home",
            str(self.home),
            "--portal",
            self.portal.url,
            "--token",
            "good",
            "--endpoint-host",
            "127.0.0.1",
            "--engine",
            self.engine,
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        self.portal.wait(lambda: not self.portal.linked, 20, "the last agent's link is gone")
        self.start_without_portal()
        # One that cannot see what Docker mounts waits for that, in each of its trials.
        self.portal.wait(lambda: self.portal.linked, 120 if self.wrapper else 20, "the agent's link")

    def start_without_portal(self) -> None:
        log = (self.home.parent / "agent.log").open("ab")
        command = [*self.wrapper, sys.executable, "-m", "nodes.agent", "run", "--home", str(self.home)]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment, cwd=self.home.parent)
        log.close()

    def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    @property
    def log(self) -> str:
        return (self.home.parent / "agent.log").read_text()


@contextmanager
def running_agent(portal: FakePortal, folder: Path, wrapper: "tuple[str, ...]" = ()) -> Iterator[AgentProcess]:
    """Enrol and run an agent until the block ends; nothing of it is left in Docker after."""
    running = AgentProcess(folder / "home", portal, wrapper=list(wrapper))
    running.enrol()
    running.start()
    try:
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.kill()
        engine.remove_labelled(f"io.interchain.device={portal.device_id}")
        volume_files.erase_all(portal.device_id, Engine(running.engine))
        left = leftovers.of_volumes(sandbox.volume_name(portal.device_id, ""))
        assert not left, left


@pytest.fixture
def agent(
    request: pytest.FixtureRequest, portal: FakePortal, tmp_path: Path, docker_engine: None
) -> Iterator[AgentProcess]:
    if request.node.get_closest_marker("one_agent"):
        yield request.getfixturevalue("shared_agent")
        return
    with running_agent(portal, tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def shared_portal() -> Iterator[FakePortal]:
    with FakePortal() as running:
        yield running


@pytest.fixture(scope="module")
def shared_agent(
    shared_portal: FakePortal, tmp_path_factory: pytest.TempPathFactory, docker_engine: None
) -> Iterator[AgentProcess]:
    """One agent for a whole file (mark `one_agent`), where tests differ in what they run and not in what happens to the agent."""
    with running_agent(shared_portal, tmp_path_factory.mktemp("agent")) as running:
        yield running
