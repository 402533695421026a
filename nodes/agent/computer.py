"""What programs this computer has, and how much room. `shutil` would say so too, but it brings three compressors into memory for good."""

from __future__ import annotations

import os
from pathlib import Path

SBIN = ("/usr/sbin", "/sbin", "/usr/local/sbin")  # where a person's PATH may not lead


def program(name: str) -> "str | None":
    """Return the path of a program, None if there is none of that name."""
    for folder in (*os.get_exec_path(), *SBIN):
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def free_bytes(folder: "Path | str") -> int:
    """Return how much may still be written where the folder is.

    Raises:
        OSError: it is not there.
    """
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
