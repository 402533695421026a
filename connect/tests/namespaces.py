"""Computers of their own for a test: Linux network namespaces on one bridge, each with its own address and cable."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUBNET = "10.213.77"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Computer:
    """One namespace; programs started in it end with it."""

    def __init__(self, hub: str, number: int) -> None:
        self.name, self.address = f"{hub}-{number}", f"{SUBNET}.{number}"
        self._hub, self._cable = hub, f"ic{number}"
        self._running: list[subprocess.Popen[str]] = []
        ip("netns", "add", self.name)
        ip("-n", hub, "link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("-n", hub, "link", "set", self._cable, "master", "hub", "up")
        ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        ip("-n", self.name, "link", "set", "eth0", "up")
        ip("-n", self.name, "link", "set", "lo", "up")

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a Python program here; its standard output is a pipe."""
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'connect'}", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self._running.append(process)
        return process

    def unplug(self) -> None:
        """Pull the cable: what is sent vanishes, nobody is told."""
        ip("-n", self._hub, "link", "set", self._cable, "down")

    def plug(self) -> None:
        ip("-n", self._hub, "link", "set", self._cable, "up")

    def remove(self) -> None:
        for process in self._running:
            process.kill()
            process.communicate()
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


@contextmanager
def network(count: int) -> Iterator[list[Computer]]:
    """So many computers that reach each other, and nothing else."""
    hub = f"ict{os.getpid()}"
    ip("netns", "add", hub)
    computers: list[Computer] = []
    try:
        ip("-n", hub, "link", "add", "hub", "type", "bridge")
        ip("-n", hub, "link", "set", "hub", "up")
        for number in range(1, count + 1):
            computers.append(Computer(hub, number))
        yield computers
    finally:
        for computer in computers:
            computer.remove()
        subprocess.run(["ip", "netns", "del", hub], check=False, capture_output=True)
