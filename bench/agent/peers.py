"""The peers an idle agent is compared with, as processes of their own: a Swarm worker's dockerd, and the BOINC client."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

READY_SECONDS = 60
MANAGER, WORKER = "10.231.7.1", "10.231.7.2"


def processes_below(pid: int) -> list[int]:
    """Return a process and all that come from it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += processes_below(int(child))
    return found


@contextmanager
def boinc(folder: Path) -> Iterator[int]:
    """Run the BOINC client without a project; yields its process id.

    Raises:
        SystemExit: it is not installed.
    """
    program = shutil.which("boinc")
    if program is None:
        raise SystemExit("The BOINC client is missing. Type: apt-get install boinc-client")
    folder.mkdir()
    command = [program, "--dir", str(folder), "--allow_multiple_clients", "--gui_rpc_port", "31499"]
    with (folder / "log").open("wb") as log, _ended(subprocess.Popen(command, stdout=log, stderr=log)) as running:
        yield running.pid


@contextmanager
def swarm_worker(folder: Path) -> Iterator[SwarmWorker]:
    """Run two Engines in network namespaces of their own, one manager and one worker of a swarm. Needs root."""
    with ExitStack() as stack:
        names = [f"bench-swarm-{role}-{os.getpid()}" for role in ("m", "w")]
        for name in names:
            _do("ip", "netns", "add", name)
            stack.callback(_do, "ip", "netns", "del", name)
        _do("ip", "link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for name, address in zip(names, (MANAGER, WORKER), strict=True):
            _do("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                _do("ip", "-n", name, "link", "set", link, "up")
        manager, worker = (
            stack.enter_context(_engine(folder / role, name))
            for role, name in zip(("manager", "worker"), names, strict=True)
        )
        manager.docker("swarm", "init", "--advertise-addr", MANAGER)
        token = manager.docker("swarm", "join-token", "-q", "worker")
        worker.docker("swarm", "join", "--advertise-addr", WORKER, "--token", token, f"{MANAGER}:2377")
        yield SwarmWorker(manager, worker)


class Engine:
    def __init__(self, pid: int, socket: str) -> None:
        self.pid, self._socket = pid, socket

    def docker(self, *arguments: str) -> str:
        command = ["docker", "-H", self._socket, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def answers(self) -> bool:
        return subprocess.run(["docker", "-H", self._socket, "info"], capture_output=True, check=False).returncode == 0


class SwarmWorker:
    def __init__(self, manager: Engine, worker: Engine) -> None:
        self._manager, self._worker = manager, worker

    @property
    def dockerd(self) -> int:
        return self._worker.pid

    @property
    def containerd(self) -> int:
        return processes_below(self._worker.pid)[1]

    def run(self, image: str, count: int) -> None:
        """Let the worker run so many containers of an image of the Engine at hand."""
        subprocess.run(
            f"docker save {image} | docker -H {self._worker._socket} load",
            shell=True, check=True, capture_output=True,
        )  # fmt: skip
        only = ["--constraint", "node.role==worker", "--endpoint-mode", "dnsrr", "--no-resolve-image", "--detach"]
        self._manager.docker("service", "create", "--name", "bench", "--replicas", str(count), *only, image)
        until = time.monotonic() + READY_SECONDS
        while len(self._worker.docker("ps", "-q").split()) < count:
            if time.monotonic() > until:
                raise SystemExit("The swarm did not start its containers.")
            time.sleep(0.5)


@contextmanager
def _engine(folder: Path, namespace: str) -> Iterator[Engine]:
    folder.mkdir(parents=True)
    socket = f"unix://{folder}/docker.sock"
    # Not `ip netns exec`: it hides the cgroups.
    command = ["nsenter", f"--net=/run/netns/{namespace}", "dockerd", "-H", socket, "--pidfile", f"{folder}/pid",
               "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]  # fmt: skip
    with (folder / "log").open("wb") as log, _ended(subprocess.Popen(command, stdout=log, stderr=log)) as running:
        engine = Engine(running.pid, socket)  # nsenter becomes the Engine
        until = time.monotonic() + READY_SECONDS
        while not engine.answers():
            if running.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"dockerd does not run: {(folder / 'log').read_text()[-500:]}")
            time.sleep(0.5)
        try:
            yield engine
        finally:
            kept = engine.docker("ps", "-aq").split()
            subprocess.run(["docker", "-H", socket, "swarm", "leave", "--force"], capture_output=True, check=False)
            if kept:
                subprocess.run(["docker", "-H", socket, "rm", "-f", *kept], capture_output=True, check=False)


@contextmanager
def _ended(running: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(60)


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
