"""How fast an app may write to its volume and its layer: each its part of what the disk can, whether others write or not (docs/adr/0337).

An app that flushes as fast as it can would take two thirds of a neighbour's flushes. Held to its part always, it takes none, and no publisher
finds an app slower on the day a neighbour comes. Writes are counted, too: each costs the kernel's own threads, which are in no app's quota of
the processors (docs/adr/0338).
"""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodes.agent import config as configuration
from nodes.agent.config import Config, Home
from nodes.agent.engine import Engine

BLOCK_BYTES = 2**20
BLOCKS = 16
PART = 0.25  # of the disk's pace, for all apps of a full device together: flushes of several at once take far longer
LEAST_BYTES_PER_SECOND = 8 * 2**20  # a small app's part of a slow disk: less would keep a database from starting
WRITES_PER_CORE = 3000  # a second: the kernel works about an eighth of a core on them; a small flush is two of them
LEAST_WRITES_PER_SECOND = 500
LAYER_PART = 4  # beside a volume the layer gets a quarter, as of the room (sandbox.layer_allowance)


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
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(BLOCKS):
                began = time.perf_counter()
                file.write(block)
                os.fdatasync(file.fileno())
                seconds.append(time.perf_counter() - began)
    finally:
        path.unlink(missing_ok=True)
    usual = sorted(seconds)[len(seconds) // 2]  # `statistics.median` loads half a megabyte, which stays
    return max(1, int(BLOCK_BYTES / max(1e-9, usual)))


def known(home: Home, settings: Config, engine: Engine) -> Config:
    """Return the settings with the pace of the disk Docker's data is on: measured once, and kept in the agent's file.

    Raises:
        SetupError: Docker does not answer.
        OSError: nothing can be written there.
    """
    if settings.flushed_bytes_per_second:
        return settings
    folder = Path(str(engine.call("GET", "/info").get("DockerRootDir") or "/"))
    settings = dataclasses.replace(settings, flushed_bytes_per_second=measure(folder))
    configuration.save(home, settings)
    return settings


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
