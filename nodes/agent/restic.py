"""Runs restic, which ends with this process, however that ends: an agent that was killed and started again must not find an
older restic still writing into a volume that an app has by then."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nodes.agent.errors import AgentError, Cancelled

if TYPE_CHECKING:
    import ctypes

LOOK_SECONDS = 0.5
NEW_REPOSITORY = "unable to open config file"
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def run(
    environment: "dict[str, str]",
    *arguments: str,
    folder: str = "/",
    new: bool = False,
    cancelled: "threading.Event | None" = None,
) -> bytes:
    """Run restic to its end and return what it printed.

    Args:
        new: make the repository if there is none.

    Raises:
        AgentError: with restic's last words.
        Cancelled: the event was set meanwhile.
    """
    try:
        process = subprocess.Popen(
            ["restic", *arguments],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=_ends_with_us(),
        )
    except FileNotFoundError:
        raise AgentError("restic is not installed on this device. Type: apt-get install restic") from None
    while True:
        try:
            out, said = process.communicate(timeout=LOOK_SECONDS)
            break
        except subprocess.TimeoutExpired:
            if cancelled is not None and cancelled.is_set():
                process.terminate()
                process.communicate()
                raise Cancelled("The portal no longer wants this lease to run.") from None
    if process.returncode == 0:
        return out
    words = said.decode(errors="replace").strip()
    if new and NEW_REPOSITORY in words:
        run(environment, "init")
        return run(environment, *arguments, folder=folder)
    raise AgentError(f"restic {arguments[0]}: {words[-200:]}")


def flush(folder: Path) -> None:
    """Have all that was written to the folder's file system on its disk, and not only in memory.

    Raises:
        AgentError: the disk did not take it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if _library().syncfs(descriptor) != 0:
            raise AgentError("The disk did not take what was brought.")
    finally:
        os.close(descriptor)


def _library() -> "ctypes.CDLL":
    import ctypes  # half a megabyte; only where something is copied

    return ctypes.CDLL(None, use_errno=True)


def _ends_with_us() -> "Callable[[], None]":
    """Return what a child calls before it becomes restic: the kernel kills it when the thread that waits for it ends."""
    library, us = _library(), os.getpid()

    def arrange() -> None:
        library.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != us:  # it ended in between
            os._exit(1)

    return arrange
