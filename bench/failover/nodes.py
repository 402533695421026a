"""Three computers on one: network namespaces on one bridge, each with a Docker Engine of its own, whose cable can be pulled."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

BRIDGE, HOST_ADDRESS = "failover", "10.77.0.1"
START_SECONDS = 90


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


@dataclass
class Node:
    """One of them."""

    number: int
    folder: Path
    data: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"10.77.0.{10 + self.number}"

    @property
    def engine(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    @property
    def _cable(self) -> str:
        return f"vfail{self.number}"

    @property
    def _namespace(self) -> str:
        return f"fail{self.number}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(parents=True, exist_ok=True)
        run("ip", "netns", "add", self._namespace)
        run("ip", "link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self._namespace)
        run("ip", "link", "set", self._cable, "master", BRIDGE, "up")
        for words in ("link set lo up", f"addr add {self.address}/24 dev eth0", "link set eth0 up"):
            run("ip", "netns", "exec", self._namespace, "ip", *words.split())
        command = [
            "dockerd",
            "--data-root",
            str(self.data),
            "--exec-root",
            str(self.folder / "exec"),
            "-H",
            self.engine,
        ]
        self.spawn("dockerd", *command, "-p", str(self.folder / "docker.pid"))
        until = time.monotonic() + START_SECONDS
        while subprocess.run(["docker", "-H", self.engine, "version"], capture_output=True, check=False).returncode:
            if time.monotonic() > until:
                raise SystemExit(f"dockerd of node {self.number} does not start: see {self.folder}/dockerd.log")
            time.sleep(0.3)

    def spawn(self, name: str, *command: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a program there."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self._namespace}", *command], stdout=log, stderr=log, env=env
            )
        self.processes.append(process)
        return process

    def docker(self, *arguments: str, check: bool = True) -> str:
        return run("docker", "-H", self.engine, *arguments, check=check)

    def cut(self) -> float:
        """Pull the cable; returns when it was out."""
        run("ip", "link", "set", self._cable, "down")
        return time.monotonic()

    def mend(self) -> None:
        run("ip", "link", "set", self._cable, "up")

    def stop(self) -> None:
        with suppress(SystemExit):
            left = self.docker("ps", "-aq", check=False).split()
            if left:
                self.docker("rm", "-f", *left, check=False)
        for process in reversed(self.processes):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
        run("ip", "netns", "del", self._namespace, check=False)
        run("ip", "link", "del", self._cable, check=False)


def make_bridge(port: int) -> None:
    """Connect the nodes with this computer, whose portal on loopback they reach as HOST_ADDRESS."""
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "addr", "add", f"{HOST_ADDRESS}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    Path(f"/proc/sys/net/ipv4/conf/{BRIDGE}/route_localnet").write_text("1")
    for rule in _forwarding(port):
        run("iptables", "-t", "nat", "-I", *rule)


def remove_bridge(port: int) -> None:
    for rule in _forwarding(port):
        run("iptables", "-t", "nat", "-D", *rule, check=False)
    run("ip", "link", "del", BRIDGE, check=False)


def _forwarding(port: int) -> list[list[str]]:
    target = ["-p", "tcp", "-d", HOST_ADDRESS, "--dport", str(port), "-j", "DNAT", "--to", f"127.0.0.1:{port}"]
    return [[chain, *target] for chain in ("PREROUTING", "OUTPUT")]
