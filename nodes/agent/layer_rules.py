"""What a layer of an image must not hold: paths out of the image, devices of the computer, more than there is room for."""

from __future__ import annotations

import posixpath
import tarfile
from typing import IO

from nodes.agent.errors import ArchiveUnsound

MOST_FILES = 1_000_000
MOST_PATH, MOST_NAME = 4096, 255  # bytes; Linux takes no longer ones, and what climbs about in them takes its time
# What images made from whole systems have in /dev; everything else reaches hardware.
HARMLESS = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)}


def check_layer(file: "IO[bytes]", most: int, budget: int) -> "tuple[int, int]":
    """Return how many files the layer has, and what they come to unpacked: holes in files count, for Docker writes them out.

    Raises:
        ArchiveUnsound: there are more than `most`, they come to more than `budget` bytes, or one may not be in an image.
        tarfile.TarError, ValueError and others: it is damaged.
    """
    count = unpacked = 0
    with tarfile.open(fileobj=file, mode="r:") as layer:
        for member in iter(layer.next, None):
            count, unpacked = count + 1, unpacked + max(0, member.size)
            if count > most:
                raise ArchiveUnsound(f"The image has more than {MOST_FILES:,} files. Make it smaller.")
            if unpacked > budget:
                raise too_much()
            _check_file(member)
            layer.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all of them
    return count, unpacked


def check_path(path: str) -> None:
    """Return if a file system takes the path and each name in it.

    Raises:
        ArchiveUnsound: it does not.
    """
    data = path.encode(errors="surrogateescape")
    if len(data) > MOST_PATH or b"\0" in data or max(map(len, data.split(b"/"))) > MOST_NAME:
        raise ArchiveUnsound(f"The image has a path that no computer can have ({path[:100]!r}…). Rename it.")


def too_much() -> ArchiveUnsound:
    return ArchiveUnsound("The image unpacks to more than an image may. Make it smaller.")


def _check_file(member: tarfile.TarInfo) -> None:
    """A layer's paths begin at the image's own root: a link may point anywhere, for it is followed in there."""
    for path in (member.name, *([member.linkname] if member.islnk() else [])):
        check_path(path)
        normal = posixpath.normpath(path.lstrip("/"))
        if normal == ".." or normal.startswith("../"):
            raise ArchiveUnsound(f"A layer of the image points outside of it ({path[:100]!r}). Build it anew.")
    if member.isblk() or (member.ischr() and (member.devmajor, member.devminor) not in HARMLESS):
        raise ArchiveUnsound(f"A layer of the image holds {member.name[:100]!r}, a device of a computer. Remove it.")
