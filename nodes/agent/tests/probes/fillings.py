"""Every way to fill the owner's disk that is tried, openly and where nobody looks: what, how it ends inside, and what ends it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from nodes.agent.tests.probes.scene import App

MB = 2**20
DISK_BYTES = 128 * MB  # so that ten thousand folders fit in the volume
LAYER_BYTES = DISK_BYTES // 4
STOPPED = "the agent stops the app, and says why"


@dataclass(frozen=True)
class Filling:
    """One row. `ends` are the errnos that stop it inside, or "done"; those without any are stopped from outside, by the agent."""

    name: str
    tries: str
    line: str
    ends: str = ""
    seen: str = STOPPED  # for the page
    holds: Callable[[App], None] = lambda app: None

    @property
    def where(self) -> str:
        return "volume" if "/data" in self.line else "writable layer"


def used(app: App) -> int:
    """Return what the app's volume holds, as the agent measures it."""
    found = os.statvfs(app.volume)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def nameless_count(app: App) -> None:
    assert used(app) > DISK_BYTES * 3 // 4
    assert os.listdir(app.volume) == []


def stays(app: App) -> None:
    assert app.ask("file-bomb", "/data/more", "1").outcome == "done"


def little(app: App) -> None:
    assert used(app) < DISK_BYTES // 4
    stays(app)


def layer_held(app: App) -> None:
    """See that it fills up, and takes no more of the owner's disk than the file it is in may."""
    until = time.monotonic() + 60
    while (room := os.statvfs(f"/proc/{app.pid}/root")).f_bavail and room.f_favail:
        if room.f_bavail * room.f_frsize < MB:
            break
        assert time.monotonic() < until, room
        time.sleep(0.1)
    assert os.stat(app.layer).st_blocks * 512 <= LAYER_BYTES + MB  # what holes are made of, and no more
    assert room.f_blocks * room.f_frsize <= LAYER_BYTES


REFUSED = "the kernel refuses at the limit"
IN_LAYER = (
    Filling("large layer", "write files", "file-bomb /tmp/large 60 keep", "ENOSPC", REFUSED, layer_held),
    Filling("flood", "write files of 1 MiB as fast as it can", "flood /tmp 1500", "done", REFUSED, layer_held),
    Filling("allocate", "take the room of 100 files of 8 MiB, a call for each (fallocate)", "allocate /tmp 100 8", "ENOSPC", REFUSED),
    Filling("removed files", "fill files that it removed and keeps open", "deleted-file /tmp 60 120", "ENOSPC", REFUSED, layer_held),
    Filling("mapped file", "keep a removed file in memory, not open any more", "mapped-file /tmp 60 120", "ENOSPC", REFUSED),
    Filling("empty files", "make 100,000 files with nothing in them", "empty-files /tmp 100000", "ENOSPC", "the layer has its own inodes", layer_held),
    Filling("deep path", "put a file below 10,000 folders with names of 255 characters", "deep-file /tmp 10000 1", "ENOSPC", "the same"),
)  # fmt: skip
# The same where the device cannot hold the layer; allocating is left out, for it takes gigabytes before anybody can look.
WATCHED = tuple(replace(one, ends="", seen=STOPPED) for one in IN_LAYER if one.name != "allocate")

FILLINGS: tuple[Filling, ...] = (
    *IN_LAYER,
    Filling("holes", "make 200 files of 100 MiB that are nothing but a hole", "sparse-files /tmp 200 100", "done", "they count as what they take: next to nothing", stays),
    Filling("allocate, volume", "take the room of 100 files of 8 MiB, a call for each (fallocate)", "allocate /data 100 8", "ENOSPC", REFUSED),
    Filling("removed files, volume", "fill files that it removed and keeps open", "deleted-file /data 200 3", "ENOSPC", "the kernel refuses at the limit, and what has no name counts as storage", nameless_count),
    Filling("many files, volume", "make a million files with nothing in them", "empty-files /data 1000000", "ENOSPC", "the volume has its own inodes: the owner's disk keeps its own"),
    Filling("deep path, volume", "put a file below 10,000 folders with names of 255 characters", "deep-file /data 10000 1", "done", "it counts, and goes with the volume", stays),
    Filling("holes, volume", "make 200 files of 100 MiB that are nothing but a hole", "sparse-files /data 200 100", "done", "they count as what they take, and are not copied out as 20 GB", little),
    Filling("too large a hole, volume", "make one file larger than the volume", "sparse-files /data 1 129", "EFBIG", "the kernel refuses"),
)  # fmt: skip
