"""What the device has to offer and how busy it is, from the kernel's own files."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from nodes.agent import computer
from nodes.agent.counters import Counters
from nodes.agent.protocol import Capacity

MEMORY_SHARE, DISK_SHARE = 0.8, 0.5  # offered unless the owner says otherwise; the rest is theirs
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def measure(
    folder: Path, *, cpu_millis: int = 0, memory_bytes: int = 0, disk_bytes: int = 0, perf_counters: bool = False
) -> Capacity:
    """Return what the device offers. A limit of 0 means: our default share of what is there."""
    cores = len(os.sched_getaffinity(0)) * 1000
    memory, disk = total_memory_bytes(), computer.free_bytes(folder)
    machine = platform.machine()
    return Capacity(
        cpu_millis=min(cpu_millis or cores, cores),
        memory_bytes=min(memory_bytes or int(memory * MEMORY_SHARE), memory),
        disk_bytes=min(disk_bytes or int(disk * DISK_SHARE), disk),
        architecture=ARCHITECTURES.get(machine, machine),
        cgroup_version=Counters().cgroup_version,
        perf_counters=perf_counters,
        link_bytes_per_second=link_bytes_per_second(),
    )


def link_bytes_per_second(proc: Path = Path("/proc/net/route"), net: Path = Path("/sys/class/net")) -> int:
    """Return what the interface towards the internet is rated for, one way; 0 where the kernel does not know (Wi-Fi, most
    virtual machines)."""
    try:
        routes = [line.split() for line in proc.read_text().splitlines()[1:]]
        interfaces = [route[0] for route in routes if route[1] == "00000000"]
        speeds = [int((net / name / "speed").read_text()) for name in interfaces]
    except (OSError, ValueError, IndexError):
        return 0
    return max((speed for speed in speeds if speed > 0), default=0) * 10**6 // 8


def total_memory_bytes() -> int:
    """Return how much memory the computer has."""
    return _memory("MemTotal")


class Load:
    """How busy the device is; the processor share is since the last question."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last = _cpu_times()

    def now(self) -> "dict[str, int]":
        busy, total = _cpu_times()
        was_busy, was_total = self._last
        self._last = (busy, total)
        return {
            "memory_free_bytes": _memory("MemAvailable"),
            "disk_free_bytes": computer.free_bytes(self._folder),
            "cpu_percent": 100 * (busy - was_busy) // max(1, total - was_total),
        }


def _memory(name: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def _cpu_times() -> "tuple[int, int]":
    columns = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(columns) - columns[3] - columns[4], sum(columns)
