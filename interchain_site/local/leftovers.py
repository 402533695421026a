"""Programs of a site whose manager was killed: found by the mark in their environment, and ended before a new start."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

MARK = "INTERCHAIN_SITE"
PATIENCE_SECONDS = 10


def find(data: Path) -> list[int]:
    """Return the process ids that carry this folder's mark (Linux; elsewhere none)."""
    wanted = f"{MARK}={data}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(process.name) != os.getpid() and wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def end(data: Path) -> int:
    """End all of them, and return how many there were."""
    first = found = find(data)
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    for pid in found:
        _send(pid, signal.SIGTERM)
    while found and time.monotonic() < give_up_at:
        time.sleep(0.1)
        found = find(data)
    for pid in found:
        _send(pid, signal.SIGKILL)
    return len(first)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)
