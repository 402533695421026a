"""What programs this computer has, running them, and how much room there is.

`shutil` would find programs too, but it brings three compressors into memory for good.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from nodes.agent.errors import SetupError

SBIN = ("/usr/sbin", "/sbin", "/usr/local/sbin")  # where a person's PATH may not lead


def program(name: str) -> "str | None":
    """Return the path of a program, None if there is none of that name."""
    for folder in (*os.get_exec_path(), *SBIN):
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def run(
    name: str,
    *arguments: str,
    package: str,
    text: "str | None" = None,
    fine: "tuple[int, ...]" = (0,),
    seconds: float = 30,
) -> str:
    """Run a program to its end and return what it printed.

    Args:
        package: what to install where it is missing.
        text: what it reads.
        fine: the exit codes that are no failure.

    Raises:
        SetupError: it is missing, cannot be run, takes longer than so many seconds, or failed; with its last words.
    """
    path = program(name)
    if path is None:
        raise SetupError(f"{name} is missing. Type: apt-get install {package}")
    try:
        done = subprocess.run(
            [path, *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{name} cannot be run: {error}") from error
    if done.returncode not in fine:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise SetupError(f"{name} failed: {said[0][:200]}")
    return done.stdout


def free_bytes(folder: "Path | str") -> int:
    """Return how much may still be written where the folder is.

    Raises:
        OSError: it is not there.
    """
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
