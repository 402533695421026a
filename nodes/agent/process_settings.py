"""Settings that a process takes from its environment only as it starts: the agent starts itself once more with those it lacks.

They come with the agent's code, so an update brings them to devices whose launcher, unit or image is older.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

# glibc keeps less of what is free: one heap, given back early, no store for each thread (docs/adr/0313, 0316).
SETTINGS = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
}


def ensure() -> None:
    """Return in a process that has every setting; what the environment names already, its owner chose.

    The process is the same one to whoever started it: its number, open files and the rest of its environment stay.
    """
    missing = {name: value for name, value in SETTINGS.items() if name not in os.environ}
    if not missing:
        return
    with suppress(OSError):  # without them it takes more memory, and works
        words = Path("/proc/self/cmdline").read_bytes().split(b"\0")[1:-1]
        os.execve(sys.executable, [os.fsencode(sys.executable), *words], {**os.environ, **missing})  # noqa: S606
