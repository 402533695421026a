"""Room for everybody's file watches (inotify), which Linux counts by user number, for apps and the owner's own programs together.

The kernel lets one user number have 128 instances: an app that takes them leaves none to its neighbours with the same number, or to
root. What they cost is the app's own memory, which has a limit of its own. So the counts are raised to more than the computer's memory
can hold, and an app's memory ends it first. Nothing is written to the owner's settings: the next start of the computer has what it had.
"""

from __future__ import annotations

from pathlib import Path

from nodes.agent import capacity
from nodes.agent.protocol import Check

CHECK = "file_watches"
PROC = Path("/proc/sys/fs/inotify")
# Less than one costs: an instance takes 1,400 bytes of its app's memory, a watch 110 and its file (Linux 6.18).
LEAST_BYTES = {"max_user_instances": 1024, "max_user_watches": 64}
MOST = 2**31 - 1


def needed() -> "dict[str, int]":
    """Return how many of each this computer's memory could hold at most."""
    memory = capacity.total_memory_bytes()
    return {name: min(memory // size, MOST) for name, size in LEAST_BYTES.items()}


def raise_limits(folder: Path = PROC) -> Check:
    """Raise what is too low, and return whether it is high enough now. Nothing is ever lowered."""
    short = {}
    for name, wanted in needed().items():
        path = folder / name
        try:
            if int(path.read_text()) < wanted:
                path.write_text(str(wanted))
        except (OSError, ValueError):
            short[name] = wanted
    if not short:
        return Check(CHECK, True, "Watching files is paid for with each app's own memory: none takes it from others.")
    message = (
        "An app can take all the file watches (inotify) its neighbours and the owner's programs need while it runs."
    )
    commands = "; ".join(f"sysctl -w fs.inotify.{name}={wanted}" for name, wanted in short.items())
    return Check(CHECK, False, message, f"Type: {commands}", needed=False)
