"""What a folder and processes hold on disk, however strangers have filled them.

An app decides how many files there are, how deep they lie and whether they have a name. So a look follows no path twice and no link,
remembers nothing of the files it has passed, and has at most `DEEPEST` folders open.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FILE_BYTES = 1024  # what an empty file costs the owner's disk, at least
DEEPEST = 100  # folders inside one another: what installs programs stays below 30
MOST_DESCRIPTORS = 1_000_000  # of one app; each costs 5 microseconds to look at
MOST_NAMELESS = 20_000
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Held:
    """What was found."""

    bytes: int = 0  # on disk: blocks, not lengths; each file once
    files: int = 0  # files and folders
    length: int = 0  # as the files themselves say, holes among it
    hidden: bool = False  # there is more where nobody looks: too deep, or too many

    def __add__(self, other: Held) -> Held:
        return Held(
            self.bytes + other.bytes,
            self.files + other.files,
            self.length + other.length,
            self.hidden or other.hidden,
        )


def room(folder: "str | os.PathLike[str]") -> int:
    """Return what is free where the folder is: bytes, and what the files would cost that may still be made."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize + found.f_favail * FILE_BYTES


def free(folder: "str | os.PathLike[str]") -> int:
    """Return how many bytes can still be written where the folder is; 0 where no file can be made any more."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize if found.f_favail or not found.f_files else 0  # btrfs counts no files


def by_folder(path: "str | os.PathLike[str]", *, enough: int = 0) -> Held:
    """Return what a folder holds; other file systems and links are not followed, what goes meanwhile is passed over.

    Args:
        enough: stop once bytes, and `FILE_BYTES` for each file, are more than this. 0: never.

    Raises:
        OSError: this process may not open so many files.
    """
    total = files = length = 0
    hidden = False
    folders: "list[_Folder]" = []
    try:
        _enter(folders, os.fspath(path))
        while folders:
            info = folders[-1].next()
            if info is None:
                folders.pop().close()
                continue
            is_folder = stat.S_ISDIR(info.st_mode)
            # A share of it at each of its names: the sum is the same, and no list of what was counted is needed.
            total += info.st_blocks * 512 // (1 if is_folder else max(1, info.st_nlink))
            files, length = files + 1, length + (0 if is_folder else info.st_size)
            if enough and total + files * FILE_BYTES > enough:
                break
            if is_folder and len(folders) == DEEPEST:
                hidden = True
            elif is_folder:
                _enter(folders, folders[-1].name, folders[-1].descriptor)
    finally:
        for folder in folders:
            folder.close()
    return Held(total, files, length, hidden)


def by_processes(numbers: Iterable[int], devices: "set[int]", proc: Path = Path("/proc")) -> Held:
    """Return what processes keep of some file systems in files without a name, open or mapped.

    Args:
        devices: the file systems' numbers, as `stat` gives them inside.
    """
    seen: "set[tuple[int, int]]" = set()
    total = 0
    for looked, entry in enumerate(_kept_open(numbers, proc), start=1):
        if looked > MOST_DESCRIPTORS or len(seen) > MOST_NAMELESS:
            return Held(total, len(seen), hidden=True)
        with suppress(OSError):  # closed meanwhile
            info = os.stat(entry)
            if info.st_nlink == 0 and info.st_dev in devices and (info.st_dev, info.st_ino) not in seen:
                seen.add((info.st_dev, info.st_ino))
                total += info.st_blocks * 512
    return Held(total, len(seen))


def processes(number: int, container_id: str, cgroups: Path = Path("/sys/fs/cgroup")) -> "list[int]":
    """Return the processes of the container whose first process has this number."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{number}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            listed = cgroups / controllers / path.lstrip("/") / "cgroup.procs"
            if container_id in path and listed.exists():
                return [int(word) for word in listed.read_text().split()]
    return [number] if number else []


def _kept_open(numbers: Iterable[int], proc: Path) -> "Iterator[str]":
    for number in numbers:
        for kind in ("fd", "map_files"):
            with suppress(OSError), os.scandir(f"{proc}/{number}/{kind}") as entries:
                yield from (entry.path for entry in entries)


class _Folder:
    """A folder that is being looked into."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.name = descriptor, ""
        self._entries = os.scandir(descriptor)

    def next(self) -> "os.stat_result | None":
        """Return what is known of the next entry, and keep its name; None after the last."""
        for entry in self._entries:
            with suppress(FileNotFoundError):
                self.name = entry.name
                return entry.stat(follow_symlinks=False)
        return None

    def close(self) -> None:
        self._entries.close()
        os.close(self.descriptor)


def _enter(folders: "list[_Folder]", name: str, parent: "int | None" = None) -> None:
    """Open a folder, unless it is gone, or something else has its name by now."""
    with suppress(FileNotFoundError, NotADirectoryError):
        descriptor = os.open(name, _OPEN_FOLDER, dir_fd=parent)
        if folders and os.fstat(descriptor).st_dev != os.fstat(folders[0].descriptor).st_dev:
            os.close(descriptor)
            return
        try:
            folders.append(_Folder(descriptor))
        except OSError:
            os.close(descriptor)
            raise
