"""What an image archive (`docker save`) must be, looked at without unpacking anything: the one set of rules of portal and devices.

The portal looks when a publisher uploads it, to say at once what is wrong; each device looks again before Docker sees it, for it takes
nobody's word for what it unpacks as root. Neither has rules of its own beside these.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import posixpath
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from nodes.agent import layer_rules
from nodes.agent.errors import ArchiveUnsound
from nodes.agent.layer_rules import check_layer, check_path, too_much

MOST_MEMBERS, MOST_LAYERS = 2_000, 128
MOST_UNPACKED_BYTES = 16 * 2**30
MOST_JSON_BYTES, MOST_READ_BYTES, CHUNK_BYTES = 4 * 2**20, 8 * 2**20, 2**20
MOST_LINKS = 10
GZIP = b"\x1f\x8b"
# Docker would unpack these too, but this reads only what Python itself can unpack on every device (zstd from 3.14 on).
UNREAD = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}
MANIFEST, NAMES, INDEX, LAYOUT = "manifest.json", "repositories", "index.json", "oci-layout"
PACK_AGAIN = (
    "Save it with layers compressed by gzip: echo FROM NAME | "
    "docker buildx build --output type=docker,compression=gzip,force-compression=true,dest=image.tar -"
)
SAVE_AGAIN = "Save the image again with: docker save NAME > image.tar"
_DAMAGE = (tarfile.TarError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, OverflowError,
           RecursionError, zlib.error)  # fmt: skip

Members = dict[str, tarfile.TarInfo]


@dataclass(frozen=True)
class Contents:
    """The one image of a sound archive."""

    image_id: str  # "sha256:…" of its config
    config: "dict[str, Any]"
    tags: "tuple[str, ...]"
    unpacked_bytes: int


def read(path: Path, *, most_unpacked_bytes: int = 0) -> Contents:
    """Return what the archive holds.

    Args:
        most_unpacked_bytes: what all layers may come to; 0 for the most a device takes.

    Raises:
        ArchiveUnsound: it is not exactly one image, or holds what reaches beyond it; with what is wrong and what to do.
    """
    try:
        with path.open("rb") as file, tarfile.open(fileobj=cast("IO[bytes]", _Bounded(file)), mode="r:") as archive:
            members = _members(archive)
            manifest = _manifest(archive, members)
            document = _read(archive, members, manifest["Config"])
            config = _json(document, "The image's config", dict)
            budget = most_unpacked_bytes or MOST_UNPACKED_BYTES
            unpacked = _check_layers(archive, members, manifest["Layers"], config, budget)
    except _DAMAGE as error:
        raise ArchiveUnsound(f"The file is not a tar archive, or is damaged. {SAVE_AGAIN}") from error
    tags = tuple(map(str, manifest.get("RepoTags") or []))
    return Contents(f"sha256:{hashlib.sha256(document).hexdigest()}", config, tags, unpacked)


class _Bounded:
    """A file for tarfile, which would read a header of any size into memory at once."""

    def __init__(self, file: "IO[bytes]") -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int) -> bytes:
        if size > MOST_READ_BYTES:
            raise ArchiveUnsound(f"The archive has a header that is far too large. {SAVE_AGAIN}")
        return self._file.read(size)


class _Stream:
    """A layer, read once from its beginning: hashed, counted, and never more of it than there is room for."""

    def __init__(self, file: "IO[bytes]", budget: int) -> None:
        self._file, self._budget, self._at = file, budget, 0
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        if size > MOST_READ_BYTES:
            raise ArchiveUnsound(f"A layer has a header that is far too large. {SAVE_AGAIN}")
        data = self._file.read(size)
        self._at += len(data)
        if self._at > self._budget:
            raise too_much()
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


def _members(archive: tarfile.TarFile) -> Members:
    """Return the archive's entries by their names, none of which leads outside or hides another."""
    members: Members = {}
    for count, member in enumerate(archive):
        if count >= MOST_MEMBERS:
            raise ArchiveUnsound(f"The archive has more than {MOST_MEMBERS} entries; an image has far fewer.")
        name = _inside(member.name)
        if member.issym() or member.islnk():
            _inside(posixpath.join(posixpath.dirname(name) if member.issym() else "", member.linkname))
        elif not (member.isfile() or member.isdir()):
            raise ArchiveUnsound(f"The archive holds {name[:100]!r}, which is neither file nor folder. {SAVE_AGAIN}")
        plain = member.isreg() and member.name == name and member.size <= MOST_JSON_BYTES
        if name in (MANIFEST, NAMES, INDEX) and not plain:
            # Docker would read another manifest than the one whose names are left out (archives.py).
            raise ArchiveUnsound(f"The archive's {name} is not a plain file of a fitting size. {SAVE_AGAIN}")
        if name in members and not member.isdir():
            # Which of the two is read differs from Docker to Docker.
            raise ArchiveUnsound(f"The archive holds {name[:100]!r} twice. {SAVE_AGAIN}")
        members[name] = member
    links = {name for name, member in members.items() if member.issym() or member.islnk()}
    for name in members if links else ():
        if any(str(folder) in links for folder in PurePosixPath(name).parents):
            raise ArchiveUnsound(f"The archive puts {name[:100]!r} behind a link. {SAVE_AGAIN}")
    return members


def _inside(name: str) -> str:
    """Return the normal form of a path that stays inside the archive."""
    check_path(name)
    normal = posixpath.normpath(name)
    if name.startswith("/") or normal == ".." or normal.startswith("../"):
        raise ArchiveUnsound(f"The archive points outside itself ({name[:100]!r}). {SAVE_AGAIN}")
    return normal


def _manifest(archive: tarfile.TarFile, members: Members) -> "dict[str, Any]":
    if MANIFEST not in members:
        raise ArchiveUnsound(f"There is no manifest.json inside: this is not an image archive. {SAVE_AGAIN}")
    images = _json(_read(archive, members, MANIFEST), MANIFEST, list)
    if len(images) != 1:
        raise ArchiveUnsound(f"The archive holds {len(images)} images; it must hold exactly one image. {SAVE_AGAIN}")
    manifest = images[0]
    sound = (
        isinstance(manifest, dict)
        and isinstance(manifest.get("Config"), str)
        and isinstance(manifest.get("Layers"), list)
        and all(isinstance(layer, str) for layer in manifest["Layers"])
        and isinstance(manifest.get("RepoTags"), (list, type(None)))
    )
    if not sound:
        raise ArchiveUnsound(f"manifest.json does not describe an image. {SAVE_AGAIN}")
    return dict(manifest)


def _open(archive: tarfile.TarFile, members: Members, name: str) -> "IO[bytes]":
    """Open a file of the archive, following links inside it as `docker load` does."""
    target = _inside(name)
    for _ in range(MOST_LINKS):
        member = members.get(target)
        if member is None:
            break
        if member.isreg():
            return cast("IO[bytes]", archive.extractfile(member))
        target = _inside(posixpath.join(posixpath.dirname(target) if member.issym() else "", member.linkname))
    raise ArchiveUnsound(f"The archive lacks {name[:100]!r}: it was not saved completely. {SAVE_AGAIN}")


def _read(archive: tarfile.TarFile, members: Members, name: str) -> bytes:
    with _open(archive, members, name) as file:
        data = file.read(MOST_JSON_BYTES + 1)
    if len(data) > MOST_JSON_BYTES:
        raise ArchiveUnsound(f"{name[:100]!r} in the archive is too large. {SAVE_AGAIN}")
    return data


def _json(data: bytes, what: str, kind: type) -> Any:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, kind):
        raise ArchiveUnsound(f"{what} in the archive cannot be read. {SAVE_AGAIN}")
    return document


def _check_layers(
    archive: tarfile.TarFile, members: Members, layers: "list[str]", config: "dict[str, Any]", budget: int
) -> int:
    """Prove that each layer is the one its config names, and that together they unpack to a bounded size; returns that."""
    rootfs = config.get("rootfs")
    expected = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(expected, list) or len(expected) != len(layers) or not 1 <= len(layers) <= MOST_LAYERS:
        raise ArchiveUnsound(f"The image's config and its layers do not match. {SAVE_AGAIN}")
    whole, files = budget, layer_rules.MOST_FILES
    for name, wanted in zip(layers, expected):  # noqa: B905 (Python 3.9 has no `strict`; the lengths are the same)
        with _open(archive, members, name) as raw:
            stream = _Stream(_plain(raw), budget)
            count, unpacked = check_layer(cast("IO[bytes]", stream), files, budget)
            budget, files = budget - max(stream.drain(), unpacked), files - count
        if f"sha256:{stream.digest.hexdigest()}" != wanted:
            raise ArchiveUnsound(f"The layer {name[:100]!r} is not what the image's config says. {SAVE_AGAIN}")
    return whole - budget


def _plain(raw: "IO[bytes]") -> "IO[bytes]":
    """Return a layer's archive, unpacked on the way if it is gzipped."""
    beginning = raw.read(8)
    raw.seek(0)
    for sign, program in UNREAD.items():
        if beginning.startswith(sign):
            raise ArchiveUnsound(
                f"A layer of the image is compressed by {program}, which not every device can read. {PACK_AGAIN}"
            )
    return cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if beginning.startswith(GZIP) else raw
