"""The links by which Docker keeps a container's writable layer in another file system than its own.

    <Docker's data>/overlay2/<id>/diff, work                                                  Docker's own store
    <containerd's data>/io.containerd.snapshotter.v1.overlayfs/snapshots/<number>/fs, work    containerd's image store

Both make the two folders with the container, mount them at each of its starts, and remove what is in their folder with the container, links as
links. Of the first store Docker says where they are; of the second the kernel does, while the container's files are mounted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodes.agent import computer, openers
from nodes.agent.engine import Engine
from nodes.agent.errors import SetupError

OVERLAY2, OVERLAYFS = "overlay2", "overlayfs"
CONTAINERD = "io.containerd.snapshotter.v1"
MOUNT_SECONDS = 5.0


@dataclass(frozen=True)
class Overlay:
    """An overlay that is mounted."""

    path: str
    upper: str
    work: str


def why_not(info: "dict[str, Any]") -> str:
    """Return why layers cannot be found in this Engine's store, "" if they can. Args: info: what Docker says of itself."""
    driver = str(info.get("Driver") or "nothing known")
    if driver == (OVERLAYFS if in_containerd(info) else OVERLAY2):
        return ""
    return f"Docker keeps containers by {driver}, not by {OVERLAY2} or containerd's {OVERLAYFS}"


def in_containerd(info: "dict[str, Any]") -> bool:
    """Whether Docker keeps images and layers in containerd's store, as from version 29 on it does unless told otherwise."""
    return ["driver-type", CONTAINERD] in (info.get("DriverStatus") or [])


def join(detail: "dict[str, Any]", path: str, engine: Engine) -> None:
    """Have a container that never ran keep its layer in the file system mounted at a path, with what Docker has put into it.

    Raises:
        AgentError, OSError: it cannot be; the container must not be started then.
    """
    # There is another folder beside it if the first container could not have its port.
    folder = Path(path) / detail["Id"][:12]
    folder.mkdir()
    _see_that_it_is_not_mounted(detail)
    upper, work = _folders(detail, engine)
    _see_that_it_is_not_mounted(detail)
    for own, inside in ((upper, "diff"), (work, "work")):
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


def is_joined(detail: "dict[str, Any]", engine: Engine) -> bool:
    """Whether a container that does not run has its layer in a file system of its own, and finds it there; that is mounted now.

    Raises:
        AgentError: Docker cannot mount the container's files.
    """
    return all(folder.is_symlink() and folder.is_dir() for folder in _folders(detail, engine))


@contextmanager
def mounted(detail: "dict[str, Any]", engine: Engine) -> Iterator[Overlay]:
    """Have Docker mount the files of a container that does not run, as long as the block lasts (see openers.py).

    Raises:
        AgentError: it does not, or not where this agent can see it.
    """
    with engine.unfinished("PUT", f"/containers/{detail['Id']}/archive", query={"path": "/"}) as unpacking:
        openers.wait_until(lambda: _mounted(detail) is not None, unpacking, seconds=MOUNT_SECONDS)
        found = _mounted(detail)
        if found is None:
            raise SetupError("Somebody has the container's files unmounted.")
        yield found
        unpacking.end()  # returns when Docker has let go of them


def overlays(process: "int | str" = "self") -> Iterator[Overlay]:
    """Yield each overlay a process has mounted; none of one that has ended."""
    try:
        lines = Path(f"/proc/{process}/mountinfo").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        where, _, kind = line.partition(" - ")
        if kind.startswith("overlay "):
            options = dict(part.partition("=")[::2] for part in kind.split()[-1].split(","))
            yield Overlay(where.split()[4], options.get("upperdir", ""), options.get("workdir", ""))


def _see_that_it_is_not_mounted(detail: "dict[str, Any]") -> None:
    if _mounted(detail):
        raise SetupError("Somebody has the container's files mounted: it would go on with the folder it has.")


def _mounted(detail: "dict[str, Any]") -> "Overlay | None":
    path = _told(detail).get("MergedDir")
    for overlay in overlays():
        if overlay.path == path or Path(overlay.path).name == detail["Id"]:
            return overlay
    return None


def _folders(detail: "dict[str, Any]", engine: Engine) -> "tuple[Path, Path]":
    told = _told(detail)
    if told:
        return Path(told["UpperDir"]), Path(told["WorkDir"])
    with mounted(detail, engine) as overlay:
        return Path(overlay.upper), Path(overlay.work)


def _told(detail: "dict[str, Any]") -> "dict[str, str]":
    """Return what Docker says of where a container's files are: nothing of those in containerd's store."""
    return (detail.get("GraphDriver") or {}).get("Data") or {}
