"""How fast an app may write to its volume and its layer: each its part of what the disk can, whether others write or not (docs/adr/0337).

An app that flushes as fast as it can would take two thirds of a neighbour's flushes. Held to its part always, it takes none, and no publisher
finds an app slower on the day a neighbour comes. Writes are counted, too: each costs the kernel's own threads, which are in no app's quota of
the processors (docs/adr/0338).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodes.agent import files

log = logging.getLogger(__name__)
BLOCK_BYTES = 2**20
BLOCKS = 16
PART = 0.25  # of the disk's pace, for all apps of a full device together: flushes of several at once take far longer
LEAST_BYTES_PER_SECOND = 8 * 2**20  # a small app's part of a slow disk: less would keep a database from starting
WRITES_PER_CORE = 3000  # a second: the kernel works about an eighth of a core on them; a small flush is two of them
LEAST_WRITES_PER_SECOND = 500
LAYER_PART = 4  # beside a volume the layer gets a quarter, as of the room (sandbox.layer_allowance)
KEPT = 8  # measures; the best of them counts, and a disk that was put in since is known after as many days
SOON = 3  # so many are taken as soon as the device is quiet
SOON_SECONDS, DAY_SECONDS = 600.0, 86_400.0
QUIET_LOAD = 0.5  # processes that want to run, for each core


@dataclass(frozen=True)
class Pace:
    """What an app may write to one loop device in a second, always."""

    device: str  # leads to it when Docker starts the app
    bytes: int  # 0: as many as the disk takes
    writes: int


def measure(folder: Path) -> int:
    """Return how many bytes a second the disk takes when each MiB is flushed; half of the flushes took longer."""
    path = folder / f".pace-{os.getpid()}"
    block, seconds = os.urandom(BLOCK_BYTES), []
    with path.open("wb", buffering=0) as file:
        path.unlink()  # nothing is left of an agent that is killed here
        for _ in range(BLOCKS):
            began = time.perf_counter()
            file.write(block)
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - began)
    usual = sorted(seconds)[len(seconds) // 2]  # `statistics.median` loads half a megabyte, which stays
    return max(1, int(BLOCK_BYTES / max(1e-9, usual)))


class DiskPace:
    """The pace of the disk Docker's data is on, the best of several measures: a busy moment makes one too low, and none too high.

    Safe to call from any thread. What it finds holds for containers made from then on.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        *,
        pinned: int = 0,
        measure: "Callable[[Path], int]" = measure,
        now: "Callable[[], float]" = time.time,
        load: "Callable[[], float]" = lambda: os.getloadavg()[0],
    ) -> None:
        """Args: path: a file of the agent's. folder: on the disk. pinned: by the owner; nothing is measured then."""
        self._path, self._folder, self._pinned = path, folder, pinned
        self._measure, self._now, self._load = measure, now, load
        self._measures, self._measured_at = _read(path)
        self._busy = threading.Lock()

    @property
    def bytes_per_second(self) -> int:
        """0: it could not be measured yet."""
        return self._pinned or max(self._measures, default=0)

    def begin(self) -> None:
        """Measure now if that was never done. A disk that is full is measured later."""
        if not self.bytes_per_second:
            self._take()

    def upkeep(self) -> None:
        """Measure again beside the caller if it is time; to be called now and then."""
        if self._is_due() and not self._busy.locked():
            threading.Thread(target=self._take, name="disk-pace", daemon=True).start()

    def _is_due(self) -> bool:
        if self._pinned:
            return False
        age = abs(self._now() - self._measured_at)  # the clock may have been set back
        soon = len(self._measures) < SOON and age >= SOON_SECONDS and self._load() < QUIET_LOAD * (os.cpu_count() or 1)
        return soon or age >= DAY_SECONDS

    def _take(self) -> None:
        with self._busy:
            self._measured_at = self._now()
            try:
                found = self._measure(self._folder)
                self._measures = [*self._measures, found][-KEPT:]
                files.write_json(self._path, {"measures": self._measures, "measured_at": self._measured_at})
            except OSError as error:
                log.warning("The disk's pace could not be measured: %s", error)


def _read(path: Path) -> "tuple[list[int], float]":
    """Return the measures and when the last was taken; none of a file that says something else."""
    with suppress(TypeError, KeyError, ValueError):
        document = files.read_json(path)
        return [int(each) for each in document["measures"] if int(each) > 0][-KEPT:], float(document["measured_at"])
    return [], 0.0


def held(cpu_millis: int, *, disk: int, cores: int, volume: str, layer: str) -> "tuple[Pace, ...]":
    """Return how an app's devices are held.

    Args:
        disk: what `measure` found; 0: not measured.
        volume, layer: the links to their loop devices; "" where there is none.
    """
    paces = []
    for device, part in ((volume, cpu_millis), (layer, cpu_millis // LAYER_PART if volume else cpu_millis)):
        if device:
            paces.append(Pace(device, allowed(part, disk=disk, cores=cores), allowed_writes(part)))
    return tuple(paces)


def blkio(paces: "tuple[Pace, ...]") -> "dict[str, Any]":
    """Return how Docker is told: it follows the links at each start."""
    limits = {
        "BlkioDeviceWriteBps": [{"Path": pace.device, "Rate": pace.bytes} for pace in paces if pace.bytes],
        "BlkioDeviceWriteIOps": [{"Path": pace.device, "Rate": pace.writes} for pace in paces],
    }
    return {name: rates for name, rates in limits.items() if rates}


def allowed(cpu_millis: int, *, disk: int, cores: int) -> int:
    """Return the bytes a second an app may write: as much of the disk as it has of the processors.

    Args:
        disk: what `measure` found; 0: not measured, and then nothing is held.
    """
    if not disk:
        return 0
    return max(LEAST_BYTES_PER_SECOND, int(PART * disk * cpu_millis / (1000 * cores)))


def allowed_writes(cpu_millis: int) -> int:
    """Return the writes a second an app may do: the kernel's work for them is a part of what the app has of the processors."""
    return max(LEAST_WRITES_PER_SECOND, WRITES_PER_CORE * cpu_millis // 1000)
