"""What volumes leave on a computer: files, loop devices, mounts and names in Docker, looked for without the agent's own eyes."""

from __future__ import annotations

import time
from pathlib import Path

from interchain_site.testing import docker as engine


def of_volumes(part: str, *, seconds: float = 10.0) -> "list[str]":
    """Return all that is still there with this in its name; waits a while for it to go, for the kernel lets go of devices later."""
    until = time.monotonic() + seconds
    while (found := _look(part)) and time.monotonic() < until:
        time.sleep(0.2)
    return found


def _look(part: str) -> "list[str]":
    folder = Path(engine.docker("info", "-f", "{{.DockerRootDir}}")) / "interchain"
    found = [str(path) for path in folder.glob(f"*{part}*")]
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found += [f"{path.parts[3]}: {name}" for name in [path.read_text().strip()] if part in name]
        except OSError:
            continue  # let go meanwhile
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if part in line]
    return found + [name for name in engine.docker("volume", "ls", "-q").splitlines() if part in name]
