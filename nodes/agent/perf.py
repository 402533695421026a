"""Counts the instructions a lease executes in hardware, where the kernel and the processor allow it (perf_event_open(2)).

Virtual machines mostly do not; then `compute` is processor time × the device's calibrated rate. A counter lives as long as this process:
what ran while nobody counted is taken from processor time (metering.py), so nothing is lost and nothing is twice.
"""

from __future__ import annotations

import os
import platform
import struct
import threading
from pathlib import Path

from nodes.agent.counters import CGROUP_HOME, Raw

HARDWARE, INSTRUCTIONS = 0, 1  # PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS
SYSCALL = {"x86_64": 298, "aarch64": 241}
ATTRIBUTE_BYTES = 128
FLAG_PINNED = 1 << 2  # always counted, never a share of the time
OPEN_CGROUP, OPEN_CLOSE_ON_EXEC = 1 << 2, 1 << 3
PROCESSOR_UNITS = ("cpu", "cpu_core", "armv8_pmuv3", "armv8_pmuv3_0")


class Perf:
    """The open counters of all leases. Safe to call from any thread."""

    def __init__(self, sys: Path = Path("/sys"), *, event: "tuple[int, int]" = (HARDWARE, INSTRUCTIONS)) -> None:
        """Args: event: type and number; tests count a software event, which every kernel has."""
        self._sys, self._event = sys, event
        self._open: dict[str, tuple[str, list[int]]] = {}
        self._lock = threading.Lock()

    @property
    def available(self) -> bool:
        """Whether this processor shows its counters to us. Cheap: opens nothing."""
        units = self._sys / "bus/event_source/devices"
        return platform.machine() in SYSCALL and any((units / name).exists() for name in PROCESSOR_UNITS)

    def watch(self, lease_id: str) -> bool:
        """Begin to count a lease from zero; returns whether it is counted."""
        with self._lock:
            if lease_id in self._open:
                return True
            folder = self._cgroup(lease_id)
            if folder is None:
                return False
            cgroup, counters = os.open(folder, os.O_RDONLY | os.O_DIRECTORY), []
            try:
                for cpu in range(os.cpu_count() or 1):
                    counters.append(self._event_open(cgroup, cpu))
            except OSError:
                _close(counters)
                return False
            finally:
                os.close(cgroup)
            # Not its own number or ours: after a restart both may come again.
            self._open[lease_id] = (f"perf:{os.urandom(8).hex()}", counters)
            return True

    def read(self, lease_id: str) -> "Raw | None":
        """Return the count since `watch`, or None if the lease is not counted (any more)."""
        with self._lock:
            source, counters = self._open.get(lease_id, ("", []))
            total = 0
            for counter in counters:
                data = os.read(counter, 8)
                if len(data) != 8:  # the kernel needed the counter for something else: it has missed some
                    _close(self._open.pop(lease_id)[1])
                    return None
                total += struct.unpack("Q", data)[0]
            return Raw(source, total) if counters else None

    def forget(self, lease_id: str) -> None:
        """Close a lease's counters."""
        with self._lock:
            _close(self._open.pop(lease_id, ("", []))[1])

    def _cgroup(self, lease_id: str) -> "Path | None":
        root = self._sys / "fs/cgroup"
        folders = (root / tree / CGROUP_HOME / lease_id for tree in ("perf_event", "", "unified"))
        return next((folder for folder in folders if (folder / "cgroup.procs").exists()), None)

    def _event_open(self, cgroup: int, cpu: int) -> int:
        import ctypes  # half a megabyte; only where there is something to count

        attribute = bytearray(ATTRIBUTE_BYTES)
        struct.pack_into("IIQ", attribute, 0, self._event[0], ATTRIBUTE_BYTES, self._event[1])
        struct.pack_into("Q", attribute, 40, FLAG_PINNED)
        library = ctypes.CDLL(None, use_errno=True)
        buffer = (ctypes.c_char * ATTRIBUTE_BYTES).from_buffer(attribute)
        number = SYSCALL[platform.machine()]
        opened = library.syscall(number, buffer, cgroup, cpu, -1, OPEN_CGROUP | OPEN_CLOSE_ON_EXEC)
        if opened < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return int(opened)


def _close(counters: "list[int]") -> None:
    for counter in counters:
        os.close(counter)
