"""Trials of what a device can hold apps to are made one at a time on an Engine, whoever makes them: several agents may share it.

So what lies there before one was left by an agent that was killed in its own.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nodes.agent.errors import AgentError

TURN_SECONDS = 60.0


class Untried(AgentError):
    """It could not be found out whether this device can do it: that says neither that it can nor that it cannot."""

    permanent = False


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Have the folder for one trial alone while the block lasts.

    Raises:
        Untried: another agent does not come to an end with its own.
    """
    folder.mkdir(mode=0o711, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    until = time.monotonic() + TURN_SECONDS
    try:
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > until:
                raise Untried("another agent on this computer does not come to an end with trying it")
            time.sleep(0.05)
        yield
    finally:
        os.close(lock)
