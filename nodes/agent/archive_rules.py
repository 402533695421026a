"""What an image archive must not hold. Looked at without unpacking anything, before Docker sees it; the portal looked too
(nodes/services/image_tar.py), but a device takes nobody's word for what it unpacks as root.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
import posixpath
import tarfile
import zlib
from typing import IO, Any, cast

from nodes.agent.capacity import ARCHITECTURES
from nodes.agent.errors import LeaseError
from nodes.agent.protocol import Reason

MOST_MEMBERS, MOST_LAYERS, MOST_FILES = 2_000, 128, 1_000_000
MOST_UNPACKED_BYTES = 16 * 2**30
MOST_JSON_BYTES, MOST_READ_BYTES, CHUNK_BYTES = 4 * 2**20, 8 * 2**20, 2**20
MOST_LINKS = 10
# What images made from whole systems have in /dev; everything else reaches hardware.
HARMLESS = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)}
SAVE_AGAIN = "Save the image again with: docker save NAME > FILE"


def check(path: Any) -> None:
    """Return if the archive holds one image for this computer and nothing that reaches beyond it.

    Raises:
        LeaseError: `image_invalid`, with what is wrong and what to do.
    """
    try:
        with path.open("rb") as file, tarfile.open(fileobj=cast("IO[bytes]", _Bounded(file)), mode="r:") as archive:
            members = _members(archive)
            manifest = _json(archive, members, "manifest.json")[0]
            config = _json(archive, members, str(manifest["Config"]))
            _check_platform(config)
            _check_layers(archive, members, list(manifest["Layers"]), list(config["rootfs"]["diff_ids"]))
    except (tarfile.TarError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, OverflowError,
            RecursionError, zlib.error) as error:  # fmt: skip
        raise invalid(f"The archive is damaged, or was not made by `docker save`. {SAVE_AGAIN}") from error


def invalid(message: str) -> LeaseError:
    return LeaseError(Reason.IMAGE_INVALID, message, permanent=True)


class _Bounded:
    """A file for tarfile, which would read a header of any size into memory at once."""

    def __init__(self, file: "IO[bytes]") -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int) -> bytes:
        if size > MOST_READ_BYTES:
            raise invalid(f"The archive has a header that is far too large. {SAVE_AGAIN}")
        return self._file.read(size)


class _Stream:
    """A layer, read once from its beginning: hashed, counted, and never more of it than there is room for."""

    def __init__(self, file: "IO[bytes]", budget: int) -> None:
        self._file, self._budget, self._at = file, budget, 0
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        if size > MOST_READ_BYTES:
            raise invalid(f"A layer has a header that is far too large. {SAVE_AGAIN}")
        data = self._file.read(size)
        self._at += len(data)
        if self._at > self._budget:
            raise _too_much()
        self.digest.update(data)
        return data

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def seek(self, to: int, whence: int = 0) -> int:
        if whence or to < self._at:
            raise tarfile.StreamError("a layer is read forwards only")
        while self._at < to and self.read(min(CHUNK_BYTES, to - self._at)):
            pass
        return self._at

    def drain(self) -> int:
        """Read the rest; returns the whole length."""
        while self.read(CHUNK_BYTES):
            pass
        return self._at


def _members(archive: tarfile.TarFile) -> "dict[str, tarfile.TarInfo]":
    members: "dict[str, tarfile.TarInfo]" = {}
    for member in archive:
        if len(members) >= MOST_MEMBERS:
            raise invalid(f"The archive has more than {MOST_MEMBERS} entries; an image has far fewer.")
        name = _inside(member.name)
        if member.issym() or member.islnk():
            _inside(posixpath.join(posixpath.dirname(name) if member.issym() else "", member.linkname))
        elif not (member.isfile() or member.isdir()):
            raise invalid(f"The archive holds {member.name[:100]!r}, which is neither file nor folder. {SAVE_AGAIN}")
        members[name] = member
    return members


def _inside(name: str) -> str:
    """Return the normal form of a path that stays inside the archive."""
    normal = posixpath.normpath(name)
    if name.startswith("/") or normal == ".." or normal.startswith("../"):
        raise invalid(f"The archive points outside itself ({name[:100]!r}). {SAVE_AGAIN}")
    return normal


def _open(archive: tarfile.TarFile, members: "dict[str, tarfile.TarInfo]", name: str) -> "IO[bytes]":
    """Open a file of the archive, following links inside it as `docker load` does."""
    target = _inside(name)
    for _ in range(MOST_LINKS):
        member = members.get(target)
        if member is None:
            break
        if member.isreg():
            return cast("IO[bytes]", archive.extractfile(member))
        target = _inside(posixpath.join(posixpath.dirname(target) if member.issym() else "", member.linkname))
    raise invalid(f"The archive lacks {name[:100]!r}: it was not saved completely. {SAVE_AGAIN}")


def _json(archive: tarfile.TarFile, members: "dict[str, tarfile.TarInfo]", name: str) -> Any:
    with _open(archive, members, name) as file:
        data = file.read(MOST_JSON_BYTES + 1)
    if len(data) > MOST_JSON_BYTES:
        raise invalid(f"{name[:100]!r} in the archive is too large. {SAVE_AGAIN}")
    return json.loads(data)


def _check_platform(config: "dict[str, Any]") -> None:
    made_for = (config.get("os"), config.get("architecture"))
    here = ARCHITECTURES.get(platform.machine(), platform.machine())
    if made_for != ("linux", here):
        words = f"The image is for {made_for[0]}/{made_for[1]} and this device is linux/{here}."
        raise invalid(f"{words} Build it with: docker build --platform linux/{here}")


def _check_layers(
    archive: tarfile.TarFile, members: "dict[str, tarfile.TarInfo]", layers: "list[str]", expected: "list[str]"
) -> None:
    """Prove that each layer is the one its config names, and that together they unpack to a bounded size."""
    if len(layers) != len(expected) or len(layers) > MOST_LAYERS:
        raise invalid(f"The image's config and its layers do not match. {SAVE_AGAIN}")
    budget, files = MOST_UNPACKED_BYTES, MOST_FILES
    for name, wanted in zip(layers, expected):  # noqa: B905 (Python 3.9 has no `strict`; the lengths are the same)
        with _open(archive, members, str(name)) as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream = _Stream(cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if packed else raw, budget)
            count, unpacked = _check_layer(stream, files, budget)
            budget, files = budget - max(stream.drain(), unpacked), files - count
        if f"sha256:{stream.digest.hexdigest()}" != wanted:
            raise invalid(f"The layer {str(name)[:100]!r} is not what the image's config says. {SAVE_AGAIN}")


def _check_layer(stream: _Stream, most: int, budget: int) -> "tuple[int, int]":
    """Return how many files the layer has, and what they come to unpacked: holes in files count, for Docker writes them out."""
    count = unpacked = 0
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:") as layer:
        for member in iter(layer.next, None):
            count, unpacked = count + 1, unpacked + max(0, member.size)
            if count > most:
                raise invalid(f"The image has more than {MOST_FILES:,} files. Make it smaller.")
            if unpacked > budget:
                raise _too_much()
            _check_file(member)
            layer.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all of them
    return count, unpacked


def _check_file(member: tarfile.TarInfo) -> None:
    """A layer's paths begin at the image's own root: a link may point anywhere, for it is followed in there."""
    for path in (member.name, *([member.linkname] if member.islnk() else [])):
        normal = posixpath.normpath(path.lstrip("/"))
        if normal == ".." or normal.startswith("../"):
            raise invalid(f"A layer of the image points outside of it ({path[:100]!r}). {SAVE_AGAIN}")
    if member.isblk() or (member.ischr() and (member.devmajor, member.devminor) not in HARMLESS):
        raise invalid(f"A layer of the image holds {member.name[:100]!r}, a device of a computer. Remove it.")


def _too_much() -> LeaseError:
    return invalid(f"The image unpacks to more than {MOST_UNPACKED_BYTES // 2**30} GiB. Make it smaller.")
