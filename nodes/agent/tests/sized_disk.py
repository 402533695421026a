"""File systems of a size of their own, which a test can fill to the last block and empty again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DISK_BYTES = 3 * 10**9  # of nothing; with less free a device is not enrolled


@dataclass
class Disk:
    """A file system of a size of its own, mounted on a folder."""

    folder: Path
    kind: str

    def fill(self, *, but: int = 0) -> None:
        """Leave nothing free, or so many bytes, as somebody else's files would."""
        if self.kind == "tmpfs":
            found = os.statvfs(self.folder)
            self._mount(f"remount,size={(found.f_blocks - found.f_bfree) * found.f_frsize}")
            return
        size = 2**30
        with (self.folder / "rest").open("ab") as file:
            while size >= 512:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
                except OSError:
                    size //= 2
            if but:
                file.truncate(file.seek(0, os.SEEK_END) - but)

    def empty(self) -> None:
        if self.kind == "tmpfs":
            self._mount(f"remount,size={DISK_BYTES}")
        else:
            (self.folder / "rest").unlink()

    def _mount(self, options: str) -> None:
        subprocess.run(["mount", "-o", options, self.folder], check=True)


@contextmanager
def disk(folder: Path, kind: str) -> Iterator[Disk]:
    """Mount one on a new folder until the block ends."""
    folder.mkdir()
    source, options = "tmpfs", f"size={DISK_BYTES}"
    if kind == "ext4":
        source, options = str(folder.with_suffix(".img")), "loop"
        with Path(source).open("wb") as file:
            file.truncate(DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", source], check=True)
    subprocess.run(["mount", "-t", kind, "-o", options, source, folder], check=True)
    try:
        yield Disk(folder, kind)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
