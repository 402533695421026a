"""The links by which Docker keeps a container's writable layer in another file system than its own: overlay2/<id>/diff and work."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from nodes.agent import computer
from nodes.agent.errors import SetupError

DRIVER = "overlay2"


def join(detail: "dict[str, Any]", path: str) -> None:
    """Have a container that never ran keep its layer in the file system mounted at a path, with what Docker has put into it.

    Raises:
        SetupError, OSError: it cannot be; the container must not be started then.
    """
    # There is another folder beside it if the first container could not have its port.
    folder = Path(path) / detail["Id"][:12]
    folder.mkdir()
    for own, inside in ((_upper(detail), "diff"), (_work(detail), "work")):
        known, target = own.lstat(), folder / inside
        if not stat.S_ISDIR(known.st_mode):
            raise SetupError(f"Docker keeps no folder at {own}.")
        target.mkdir()
        os.chown(target, known.st_uid, known.st_gid)
        target.chmod(stat.S_IMODE(known.st_mode))
        if inside == "diff" and any(own.iterdir()):  # the folders its image lacks: working folder, mount points
            computer.run("cp", "-a", "--", f"{own}/.", str(target), package="coreutils")
        own.rename(own.with_name(f"{own.name}-empty"))  # Docker removes all of it with the container
        own.symlink_to(target)


def is_joined(detail: "dict[str, Any]") -> bool:
    return _upper(detail).is_symlink() and _work(detail).is_symlink()


def _upper(detail: "dict[str, Any]") -> Path:
    return Path(detail["GraphDriver"]["Data"]["UpperDir"])


def _work(detail: "dict[str, Any]") -> Path:
    return Path(detail["GraphDriver"]["Data"]["WorkDir"])
