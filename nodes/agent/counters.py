"""Reads the kernel's counters of one lease. Each value comes with its source: when the source changes, it counts from zero again.

Processor time and bytes are read where they outlive a container: from a cgroup of the lease's own above the container's, and
from the lease's own bridge. So nothing is lost between the last look and a crash, and Docker's slow `stats` is not needed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CGROUP_HOME = "interchain"


@dataclass(frozen=True)
class Raw:
    """A counter as the kernel has it. The same source never counts backwards."""

    source: str
    value: int


class Counters:
    """The kernel's files; tests give other roots, and numbers of interfaces."""

    def __init__(
        self,
        sys: Path = Path("/sys"),
        proc: Path = Path("/proc"),
        interface_number: "Callable[[str], int]" = socket.if_nametoindex,
    ) -> None:
        self._proc, self._interface_number = proc, interface_number
        self._cgroup = sys / "fs/cgroup"
        self.boot_id = _text(proc / "sys/kernel/random/boot_id")

    @property
    def cgroup_version(self) -> int:
        return 2 if (self._cgroup / "cgroup.controllers").exists() else 1

    def cpu_nanoseconds(self, lease_id: str, pid: int, container_id: str = "") -> "Raw | None":
        """Return the processor time of a lease, children and dead processes included, or None if nothing counts it.

        Args:
            container_id: must be in the name of the cgroup of `pid`: a dead container's number may be another process's by now.
        """
        # One or the other and never both: they count the same time, and a change of source counts it from zero again.
        own = [folder for folder in self._lease_cgroups(lease_id) if folder.is_dir()]
        for folder in own or self._process_cgroups(pid, container_id):
            found = self._cpu_of(folder)
            if found is not None:
                return found
        return None

    def _cpu_of(self, folder: Path) -> "Raw | None":
        try:
            number = folder.stat().st_ino
            value = _cpu(folder)
            if value is None or folder.stat().st_ino != number:  # made anew while we looked
                return None
        except OSError:
            return None
        return Raw(f"{self.boot_id}:{folder}:{number}", value)

    def interface_bytes(self, bridge: str) -> "Raw | None":
        """Return bytes in + out of the lease's own bridge, or None while there is none."""
        # Of the network this process is in; the files in /sys are of the one they were mounted in.
        try:
            number = self._interface_number(bridge)
            value = _interface_bytes(_text(self._proc / "self/net/dev"), bridge)
            if value is None or self._interface_number(bridge) != number:  # made anew while we looked
                return None
        except OSError:
            return None
        return Raw(f"{self.boot_id}:{bridge}:{number}", value)

    def _lease_cgroups(self, lease_id: str) -> "list[Path]":
        return [root / CGROUP_HOME / lease_id for root in self._cpu_roots()]

    def _process_cgroups(self, pid: int, container_id: str) -> "list[Path]":
        """Return where the container's first process is counted, for Engines that use systemd's own tree."""
        if not pid or not container_id:
            return []
        found = []
        for line in _text(self._proc / str(pid) / "cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            counts = self.cgroup_version == 2 or "cpuacct" in controllers.split(",")
            if counts and container_id in path:
                found += [root / path.lstrip("/") for root in self._cpu_roots()]
        return found

    def _cpu_roots(self) -> "list[Path]":
        if self.cgroup_version == 2:
            return [self._cgroup]
        return [root for root in (self._cgroup / "cpuacct", self._cgroup / "cpu,cpuacct") if root.exists()][:1]

    def remove_cgroup(self, lease_id: str) -> None:
        """Remove the lease's own cgroups after the last reading; what is still in use stays."""
        roots = [self._cgroup] if self.cgroup_version == 2 else [p for p in self._cgroup.iterdir() if p.is_dir()]
        for root in roots:
            try:
                (root / CGROUP_HOME / lease_id).rmdir()
            except OSError:
                continue


def cgroup_parent(lease_id: str, *, driver: str) -> str:
    """Return the cgroup to put a lease's container under, "" where the Engine leaves that to systemd."""
    return f"/{CGROUP_HOME}/{lease_id}" if driver == "cgroupfs" else ""


def _cpu(folder: Path) -> "int | None":
    usage = _text(folder / "cpuacct.usage")
    if usage:
        return int(usage)
    for line in _text(folder / "cpu.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == "usage_usec":
            return int(value) * 1000
    return None


def _interface_bytes(table: str, interface: str) -> "int | None":
    for line in table.splitlines():
        name, _, numbers = line.partition(":")
        if interface and name.strip() == interface:
            columns = numbers.split()
            return int(columns[0]) + int(columns[8])
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
