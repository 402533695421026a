"""What is true of the device and must still be after a probe, read from outside: a container's own word is not enough."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from nodes.agent.tests.probes.scene import App, Scene

BEGAN = time.time() - time.monotonic()
CLOCK_SECONDS = 5.0  # a step by a time server is no probe's doing, and smaller
LIMITS = {
    "memory": ("memory.limit_in_bytes", "memory.max"),
    "pids": ("pids.max",),
    "cpu": ("cpu.cfs_quota_us", "cpu.max"),
}


def text(path: "str | Path") -> str:
    """Return a file's content, "" if there is none."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def limits(app: App) -> dict[str, str]:
    """Return the container's limits as the kernel has them."""
    return {
        controller: next(filter(None, (text(app.cgroup(controller, name)) for name in names)), "")
        for controller, names in LIMITS.items()
    }


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def network(app: App) -> str:
    """Return the addresses, routes and neighbours of the container's network."""
    return "\n".join(text(f"/proc/{app.pid}/net/{name}") for name in ("fib_trie", "route", "arp"))


FACTS: dict[str, Callable[[Scene, App], object]] = {
    "arrivals": lambda scene, app: list(scene.listeners.arrived),
    "bystander": lambda scene, app: (scene.bystander.poll(), text(f"/proc/{scene.bystander.pid}/status").count("TracerPid:\t0")),
    "canary": lambda scene, app: scene.canary.read_text(),
    "clock": lambda scene, app: abs(time.time() - time.monotonic() - BEGAN) < CLOCK_SECONDS,
    "core pattern": lambda scene, app: text("/proc/sys/kernel/core_pattern"),
    "forwarding": lambda scene, app: text("/proc/sys/net/ipv4/ip_forward"),
    "host name": lambda scene, app: (text("/proc/sys/kernel/hostname"), text("/proc/sys/kernel/domainname")),
    "init": lambda scene, app: digest(Path(shutil.which("docker-init") or "/usr/bin/docker-init")),
    "interrupts": lambda scene, app: text("/proc/irq/default_smp_affinity"),
    "limits": lambda scene, app: limits(app),
    "module loader": lambda scene, app: text("/proc/sys/kernel/modprobe"),
    "modules": lambda scene, app: "interchain_probe" in text("/proc/modules"),
    "mounts": lambda scene, app: text(f"/proc/{app.pid}/mountinfo"),
    "network": lambda scene, app: network(app).count("02:01:02:03:04:05"),
    "panic on oom": lambda scene, app: text("/proc/sys/vm/panic_on_oom"),
    "swap": lambda scene, app: "probe" in text("/proc/swaps"),
}  # fmt: skip
