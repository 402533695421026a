"""Where repositories lie: Django's storage "snapshots", a folder of the server by default or S3-compatible (settings.py).

Names are those of restic's REST protocol: `config`, or `<kind>/<name>` with a SHA-256 as name.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO
from uuid import UUID, uuid4

from django.core.files.base import ContentFile, File
from django.core.files.storage import Storage, storages

from nodes.errors import StorageAway
from nodes.streaming import CHUNK_BYTES

KINDS = ("data", "index", "keys", "locks", "snapshots")
_NAME = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Item:
    """One file of a repository."""

    name: str
    size: int


class Repository:
    """The files of one workload's repository. What fails is `FileNotFoundError`, or `StorageAway` for all else."""

    def __init__(self, workload_id: UUID) -> None:
        self._root = str(workload_id)

    def exists(self, kind: str, name: str) -> bool:
        with _told():
            return _storage().exists(self._path(kind, name))

    def size(self, kind: str, name: str) -> int:
        """Return its bytes. Raises: FileNotFoundError."""
        path = self._path(kind, name)
        with _told():
            return _storage().size(path)

    def read(self, kind: str, name: str, first: int, size: int) -> Iterator[bytes]:
        """Yield so many bytes of a file from `first` on, some at a time."""
        return _chunks(self._path(kind, name), first, size)

    def save(self, kind: str, name: str, content: IO[bytes]) -> None:
        """Store a file under this very name; one that is there already stays as it is."""
        path = self._path(kind, name)
        with _told():
            if not _storage().exists(path):
                saved = _storage().save(path, File(content))
                if saved != path:  # somebody stored the same content meanwhile
                    _storage().delete(saved)

    def delete(self, kind: str, name: str) -> None:
        with _told():
            _storage().delete(self._path(kind, name))

    def items(self, kind: str) -> Iterator[Item]:
        """Yield every file of a kind."""
        with _told():
            for folder in self._folders(kind):
                for name, size in _listing(folder):
                    if _NAME.match(name):
                        yield Item(name, size)

    def bytes(self) -> int:
        return sum(item.size for kind in KINDS for item in self.items(kind))

    def remove(self) -> int:
        """Remove everything; returns how many files there were."""
        removed = 0
        for kind in KINDS:
            for item in list(self.items(kind)):
                self.delete(kind, item.name)
                removed += 1
        if self.exists("config", ""):
            self.delete("config", "")
            removed += 1
        return removed

    def _folders(self, kind: str) -> list[str]:
        # As restic's own layout: tens of thousands of packs are spread over 256 folders.
        if kind == "data":
            return [f"{self._root}/data/{number:02x}" for number in range(256)]
        return [f"{self._root}/{kind}"]

    def _path(self, kind: str, name: str) -> str:
        if kind == "config" and not name:
            return f"{self._root}/config"
        if kind not in KINDS or not _NAME.match(name):
            raise FileNotFoundError(name)
        return f"{self._root}/data/{name[:2]}/{name}" if kind == "data" else f"{self._root}/{kind}/{name}"


def probe() -> None:
    """Write a small file to the storage and remove it.

    Raises:
        StorageAway: it does not take it; says why.
    """
    with _told():
        saved = _storage().save(f"probe/{uuid4()}", ContentFile(b"interchain"))
        _storage().delete(saved)


def _listing(folder: str) -> Iterator[tuple[str, int]]:
    storage = _storage()
    if hasattr(storage, "listing"):  # nodes/snapshots/s3.py
        yield from storage.listing(folder)
        return
    names: list[str] = []
    with contextlib.suppress(FileNotFoundError):
        _, names = storage.listdir(folder)
    for name in names:
        yield name, storage.size(f"{folder}/{name}")


def _chunks(path: str, first: int, size: int) -> Iterator[bytes]:
    storage = _storage()
    with _told():
        if hasattr(storage, "chunks"):  # nodes/snapshots/s3.py: a range of an object, not all of it
            yield from storage.chunks(path, first, size)
            return
        with storage.open(path, "rb") as file:
            file.seek(first)
            while size and (chunk := file.read(min(CHUNK_BYTES, size))):
                size -= len(chunk)
                yield chunk


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageAway(error.strerror or str(error)) from error


def _storage() -> Storage:
    return storages["snapshots"]
