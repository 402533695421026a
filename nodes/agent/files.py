"""Files that survive a power cut: written beside, flushed to the disk, then moved into place."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import IO, Any


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace the file as one step: after a crash it holds the old or the new bytes, never a part."""
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
    import shutil  # seldom needed; it brings three compressors into memory for good

    shutil.rmtree(folder, ignore_errors=True)


def private_folder(path: Path) -> Path:
    """Create the folder if need be, readable by its owner alone, and return it."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path
