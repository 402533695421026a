"""Files that survive a power cut: written beside, flushed to the disk, then moved into place.

A folder may keep a ballast: a file of nothing that is made smaller when the disk is full, so that the little that must be
written still can be.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

BALLAST = "ballast"
BALLAST_BYTES = 2**20
BLOCK_BYTES = 4096
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace the file as one step: after a crash it holds the old or the new bytes, never a part.

    On a full disk it takes the room of its folder's ballast, where there is one.
    """
    try:
        _write_atomic(path, data, mode)
    except OSError as error:
        if error.errno not in DISK_FULL or not _throw_off(path.parent, len(data)):
            raise
        _write_atomic(path, data, mode)


def hold_ballast(folder: Path) -> None:
    """Have the folder's ballast in full, as far as the disk has room for it."""
    ballast = folder / BALLAST
    with suppress(OSError):
        if not ballast.exists() or ballast.stat().st_size != BALLAST_BYTES:
            with ballast.open("ab") as out:
                os.posix_fallocate(out.fileno(), 0, BALLAST_BYTES)


def _throw_off(folder: Path, size: int) -> bool:
    """Let go of as much of the ballast as a file of this size and its name need; False if there is not so much."""
    try:
        with (folder / BALLAST).open("r+b") as out:
            left = out.seek(0, os.SEEK_END) - (size // BLOCK_BYTES + 3) * BLOCK_BYTES
            if left < 0:
                return False
            out.truncate(left)
            os.fsync(out.fileno())
            return True
    except OSError:
        return False


def _write_atomic(path: Path, data: bytes, mode: int) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names created, moved or removed in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove the file for good; it is fine if it is gone already."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def read_json(path: Path) -> Any:
    """Return the file's JSON, or None when there is no file or it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def write_json(path: Path, document: Any) -> None:
    write_atomic(path, json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


def lock(path: Path) -> IO[bytes]:
    """Hold a lock on the file until what is returned is closed or this process ends, however it ends.

    Raises:
        BlockingIOError: another process holds it.
    """
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    return file


def note_holder(held: "IO[bytes]") -> None:
    """Write into a held lock which process holds it."""
    held.truncate(0)
    held.write(str(os.getpid()).encode())
    held.flush()


def remove_folder(folder: Path) -> None:
    """Remove the folder with all in it, as far as that is possible; it is fine if it is gone already."""
    if not os.path.lexists(folder):
        return
    import shutil  # seldom needed; it brings three compressors into memory for good

    shutil.rmtree(folder, ignore_errors=True)


def empty_folder(folder: Path) -> None:
    """Remove all that is in the folder, however deep it lies and however long its paths are; links are not followed.

    Nobody else may change it meanwhile.

    Raises:
        OSError: something in it cannot be removed.
    """
    at = os.open(folder, _FOLDER)
    names: "list[str]" = []  # the way from the folder to where we are: one open folder at a time, no path to name
    try:
        while True:
            inner = _unlink_files(at)
            if inner:
                at = _move(at, inner)
                names.append(inner)
            elif names:
                at = _move(at, "..")
                os.rmdir(names.pop(), dir_fd=at)
            else:
                return
    finally:
        os.close(at)


def _unlink_files(folder: int) -> str:
    """Remove a folder's files and links up to the first folder in it; returns that one's name, "" if nothing is left."""
    removed = True
    while removed:  # what is removed while it is listed may hide something from the list
        removed = False
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    return entry.name
                os.unlink(entry.name, dir_fd=folder)
                removed = True
    return ""


def _move(folder: int, name: str) -> int:
    """Return the folder of that name, open, in place of the one that was."""
    there = os.open(name, _FOLDER, dir_fd=folder)
    os.close(folder)
    return there


def private_folder(path: Path) -> Path:
    """Create the folder if need be, readable by its owner alone, and return it."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path
