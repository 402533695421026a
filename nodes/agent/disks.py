"""Files that hold an ext4 file system of a fixed size, made and looked into without mounting them.

Only e2fsprogs' own programs write here: `mkfs.ext4`, `debugfs`, `e2fsck`, `resize2fs`. The functions that change a file must not be
called while it is mounted.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from nodes.agent import computer, files
from nodes.agent.errors import SetupError

PROGRAMS = ("mkfs.ext4", "debugfs", "e2fsck", "resize2fs")
SMALLEST_BYTES = 2**20
BYTES_PER_INODE = 8192
LONGEST_SECONDS = 600
KEPT_BLOCKS = 4096
_SUPERBLOCK_AT, _MAGIC = 1024, 0xEF53
_RECOVER = 0x4  # incompatible feature: the journal is not empty


def missing_program() -> str:
    """Return the first of the programs that is not installed, "" if all are."""
    return next((name for name in PROGRAMS if computer.program(name) is None), "")


def make(
    path: Path, size: int, *, owner: "tuple[int, int]" = (0, 0), encrypted: bool = False, lasting: bool = True
) -> None:
    """Make the file, sparse and exactly this long, holding an empty file system; whole or not at all.

    Args:
        owner: user and group of its topmost folder.
        encrypted: let folders in it be encrypted (encryption.py).
        lasting: false for what is made anew after a power failure: it is not written out at once, and keeps its lost+found.

    Raises:
        SetupError: it cannot be made; in words.
    """
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    try:
        with unfinished.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.truncate(whole(size))
        # No blocks kept back for root, no room kept for growth while mounted: the size is the app's own limit.
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^resize_inode,encrypt" if encrypted else "^resize_inode", "-i", str(BYTES_PER_INODE),
             "-E", f"root_owner={owner[0]}:{owner[1]}", str(unfinished))  # fmt: skip
        if lasting:
            _empty(unfinished)
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
        unfinished.replace(path)
        if lasting:
            files.sync_folder(path.parent)
    except OSError as error:
        raise SetupError(f"A file for an app's data cannot be made in {path.parent}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def resize(path: Path, size: int) -> None:
    """Give the file system another size, data kept.

    Raises:
        SetupError: what it holds does not fit, or it is damaged.
    """
    size = whole(size)
    if path.stat().st_size == size:
        return
    _run("e2fsck", "-f", "-p", str(path), fine=(0, 1))
    if path.stat().st_size < size:
        os.truncate(path, size)
    _run("resize2fs", "-f", str(path), f"{size // 1024}K")
    os.truncate(path, size)
    _empty(path)


def give(path: Path, owner: "tuple[int, int]") -> None:
    """Let the topmost folder belong to this user and group.

    Raises:
        SetupError: it cannot be changed.
    """
    words = _run("debugfs", "-R", "stat <2>", str(path)).split()
    has = tuple(words[words.index(name) + 1] for name in ("User:", "Group:"))
    if has != tuple(map(str, owner)):
        _run("debugfs", "-w", "-R", f"set_inode_field <2> uid {owner[0]}", str(path))
        _run("debugfs", "-w", "-R", f"set_inode_field <2> gid {owner[1]}", str(path))


def encrypts(path: Path) -> bool:
    """Whether the file system was made to have encrypted folders."""
    with path.open("rb") as file:
        file.seek(_SUPERBLOCK_AT + 0x60)
        (incompatible,) = struct.unpack("<I", file.read(4))
    return bool(incompatible & 0x10000)


def is_file_system(path: Path) -> bool:
    """Whether the file begins as one does: one that a power failure emptied does not. Raises: OSError"""
    return _superblock(path) is not None


def used_bytes(path: Path, *, mounted: bool = False) -> int:
    """Return what the file system holds, without what it needs for itself.

    Exact once it was unmounted. While it is mounted out of our sight, or was never unmounted (a power failure): what was written to
    the disk, or less.
    """
    found = _superblock(path)
    if found is None or not found.overhead:  # not known before the first mount, and then there is nothing in it
        return 0
    blocks = found.blocks - found.free
    if mounted or found.in_use:
        written = path.stat().st_blocks * 512 // found.block_bytes
        # What is free is written down at an unmount: since then files may have gone.
        blocks = written if mounted else min(blocks, written)
    return max(0, blocks - found.overhead) * found.block_bytes


def is_full(path: Path) -> bool:
    """Whether less than a hundredth of the file system was free, or no file more could be made, when it was unmounted last."""
    found = _superblock(path)
    if found is None:
        return False
    kept = min(found.blocks // 50, KEPT_BLOCKS)  # ext4's own, which nobody may fill
    return not found.free_inodes or (found.free - kept) * 100 < found.blocks


@dataclass(frozen=True)
class _Counts:
    blocks: int
    free: int
    free_inodes: int
    overhead: int
    block_bytes: int
    in_use: bool  # mounted, or was not unmounted


def _superblock(path: Path) -> "_Counts | None":
    with path.open("rb") as file:
        file.seek(_SUPERBLOCK_AT)
        block = file.read(1024)
    if len(block) < 1024 or struct.unpack_from("<H", block, 0x38) != (_MAGIC,):
        return None
    low, free, inodes, log, overhead, incompatible = (
        struct.unpack_from("<I", block, at)[0] for at in (0x04, 0x0C, 0x10, 0x18, 0x248, 0x60)
    )
    high, free_high = (struct.unpack_from("<I", block, at)[0] for at in (0x150, 0x158))
    return _Counts(
        high << 32 | low, free_high << 32 | free, inodes, overhead, 1024 << log, bool(incompatible & _RECOVER)
    )


def whole(size: int) -> int:
    """Return how long a file for so many bytes is made."""
    return max(size, SMALLEST_BYTES) // 4096 * 4096


def _empty(path: Path) -> None:
    """Remove lost+found: databases refuse a folder that is not empty, and Docker would not copy the image's files there."""
    _run("debugfs", "-w", "-R", "rmdir lost+found", str(path))


def _run(name: str, *arguments: str, fine: "tuple[int, ...]" = (0,)) -> str:
    return computer.run(name, *arguments, package="e2fsprogs", fine=fine, seconds=LONGEST_SECONDS)
