"""Where repositories lie: Django's storage "snapshots", a folder of the server by default or S3-compatible (settings.py).

Names are those of restic's REST protocol: `config`, or `<kind>/<name>` with a SHA-256 as name.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO
from uuid import UUID

from django.core.files.base import File
from django.core.files.storage import Storage, storages

KINDS = ("data", "index", "keys", "locks", "snapshots")
_NAME = re.compile(r"[0-9a-f]{64}\Z")
CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True)
class Item:
    """One file of a repository."""

    name: str
    size: int


class Repository:
    """The files of one workload's repository."""

    def __init__(self, workload_id: UUID) -> None:
        self._root = str(workload_id)

    def exists(self, kind: str, name: str) -> bool:
        return _storage().exists(self._path(kind, name))

    def size(self, kind: str, name: str) -> int:
        """Return its bytes. Raises: FileNotFoundError."""
        if not self.exists(kind, name):
            raise FileNotFoundError(name)
        return _storage().size(self._path(kind, name))

    def open(self, kind: str, name: str) -> IO[bytes]:
        """Open it for reading. Raises: FileNotFoundError."""
        if not self.exists(kind, name):
            raise FileNotFoundError(name)
        return _storage().open(self._path(kind, name), "rb")

    def save(self, kind: str, name: str, content: IO[bytes]) -> None:
        """Store a file under this very name; one that is there already stays as it is."""
        path = self._path(kind, name)
        if not self.exists(kind, name):
            saved = _storage().save(path, File(content))
            if saved != path:  # somebody stored the same content meanwhile
                _storage().delete(saved)

    def delete(self, kind: str, name: str) -> None:
        _storage().delete(self._path(kind, name))

    def items(self, kind: str) -> Iterator[Item]:
        """Yield every file of a kind."""
        storage = _storage()
        for folder in self._folders(kind):
            names: list[str] = []
            with contextlib.suppress(FileNotFoundError):
                _, names = storage.listdir(folder)
            for name in names:
                if _NAME.match(name):
                    yield Item(name, storage.size(f"{folder}/{name}"))

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


def is_named_by_content(name: str, content: IO[bytes]) -> bool:
    """Tell whether a file's name is the SHA-256 of what is in it; leaves the file at its beginning."""
    digest = hashlib.sha256()
    while chunk := content.read(CHUNK_BYTES):
        digest.update(chunk)
    content.seek(0)
    return digest.hexdigest() == name


def _storage() -> Storage:
    return storages["snapshots"]
