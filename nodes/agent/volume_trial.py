"""Tries whether a volume can be a file system of its own here: one is made in a file, and the kernel offers it as a disk.

Trials of several agents take turns (trial_turns.py), so what lies there before one was left by an agent that was killed in its own.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from nodes.agent import disks, loops
from nodes.agent.abilities import is_passing
from nodes.agent.errors import AgentError
from nodes.agent.trial_turns import Untried, turn

NAME = "interchain-trial-volume"
OLDER = ".trial-"  # of agents that did not take turns
BYTES = 2**21


def why_not(folder: Path) -> str:
    """Return why this device cannot give a volume a file system of its own in this folder, "" if it can.

    Args:
        folder: where volumes' files are; made if it is missing.

    Raises:
        Untried: something else came between, such as a full disk.
    """
    image, missing = folder / f"{NAME}.img", disks.missing_program()
    if missing:
        return f"{missing} is missing (apt-get install e2fsprogs)"
    try:
        if "\text4" not in Path("/proc/filesystems").read_text():
            return "this kernel has no ext4"
        with turn(folder):
            tidy(folder)
            try:
                disks.make(image, BYTES)
                _, keep = loops.attach(image)
                os.close(keep)
                return ""
            finally:
                with suppress(OSError):  # what stays is found before the next trial
                    tidy(folder)
    except (OSError, AgentError) as error:
        if is_passing(error):
            raise Untried(str(error)) from error
        return f"a loop device cannot be used ({error})"


def tidy(folder: Path) -> None:
    """Remove what a trial made, also one whose agent was killed; not while one is under way."""
    for name in (NAME, OLDER):
        for path in folder.glob(f"{name}*"):
            path.unlink(missing_ok=True)


def tidy_in_turn(folder: Path) -> None:
    """Remove what a killed agent's trial left, once no other is under way."""
    if folder.is_dir():
        with turn(folder):
            tidy(folder)
