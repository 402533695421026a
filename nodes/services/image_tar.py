"""Look inside a `docker save` archive without trusting or unpacking it."""

from __future__ import annotations

import gzip
import hashlib
import json
import posixpath
import re
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from django.conf import settings

from nodes.errors import ArchiveInvalid

MOST_MEMBERS = 2_000
MOST_LAYERS = 128
MOST_JSON_BYTES = 4 * 1024 * 1024
MOST_READ_BYTES = 2 * MOST_JSON_BYTES
UNPACKED_FACTOR = 4
"""Layers may be gzipped inside; unpacked they may be this many times IMAGE_ARCHIVE_MAX_BYTES together."""
ARCHITECTURES = frozenset({"amd64", "arm64"})
SAVE_AGAIN = "Make it with: docker save NAME > image.tar"
CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class ArchiveInfo:
    """What an image archive holds, read from the archive itself."""

    sha256: str  # of the plain tar
    bytes: int
    image_id: str  # sha256:…
    architecture: str
    ports: tuple[int, ...]  # TCP ports the image exposes: candidates for the app's port
    volumes: tuple[str, ...]  # paths the image declares as volumes
    user: str  # "" means root
    tags: tuple[str, ...]


class _Reader:
    """The archive's file for tarfile, which would read a header of any size into memory at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int) -> bytes:
        if size > MOST_READ_BYTES:
            raise ArchiveInvalid(f"The archive has a header that is far too large. {SAVE_AGAIN}")
        return self._file.read(size)


def inspect(path: Path, *, sha256: str, size: int) -> ArchiveInfo:
    """Return what the archive holds.

    Raises:
        ArchiveInvalid: it is not exactly one sound Linux image.
    """
    try:
        with path.open("rb") as file, tarfile.open(fileobj=cast(IO[bytes], _Reader(file)), mode="r:") as archive:
            members = _members(archive)
            manifest = _manifest(archive, members)
            config_bytes = _read(archive, members, manifest["Config"])
            config = _json(config_bytes, "The image's config")
            _check_layers(archive, members, manifest["Layers"], config)
    except (tarfile.TarError, ValueError, OverflowError):  # tarfile lets out what it does not foresee
        raise ArchiveInvalid(f"The file is not a tar archive, or is damaged. {SAVE_AGAIN}") from None
    architecture = config.get("architecture")
    if config.get("os") != "linux" or architecture not in ARCHITECTURES:
        raise ArchiveInvalid(
            f"The image is for {config.get('os')}/{architecture}. Build it for linux/amd64 (docker build --platform)."
        )
    return ArchiveInfo(
        sha256=sha256,
        bytes=size,
        image_id=f"sha256:{hashlib.sha256(config_bytes).hexdigest()}",
        architecture=str(architecture),
        tags=tuple(str(tag)[:300] for tag in manifest.get("RepoTags") or [])[:20],
        **_run_config(config),
    )


def _members(archive: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    for member in archive:
        if len(members) >= MOST_MEMBERS:
            raise ArchiveInvalid(f"The archive has more than {MOST_MEMBERS} entries; an image has far fewer.")
        name = _inside(member.name)
        if member.issym() or member.islnk():
            base = posixpath.dirname(name) if member.issym() else ""
            _inside(posixpath.join(base, member.linkname))
        elif not (member.isfile() or member.isdir()):
            raise ArchiveInvalid(f"The archive holds {member.name!r}, which is neither file nor folder. {SAVE_AGAIN}")
        members[name] = member
    return members


def _inside(name: str) -> str:
    """Return the normal form of a path that stays inside the archive."""
    normal = posixpath.normpath(name)
    if name.startswith("/") or normal == ".." or normal.startswith("../") or "\x00" in name:
        raise ArchiveInvalid(f"The archive points outside itself ({name[:100]!r}). {SAVE_AGAIN}")
    return normal


def _manifest(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> dict[str, Any]:
    if "manifest.json" not in members:
        raise ArchiveInvalid(f"There is no manifest.json inside: this is not an image archive. {SAVE_AGAIN}")
    images = _json(_read(archive, members, "manifest.json"), "manifest.json", list)
    if len(images) != 1:
        raise ArchiveInvalid(f"The archive holds {len(images)} images. Save exactly one: docker save NAME > image.tar")
    manifest = images[0]
    sound = (
        isinstance(manifest, dict)
        and isinstance(manifest.get("Config"), str)
        and isinstance(manifest.get("Layers"), list)
        and all(isinstance(layer, str) for layer in manifest["Layers"])
        and isinstance(manifest.get("RepoTags"), list | None)
    )
    if not sound:
        raise ArchiveInvalid(f"manifest.json does not describe an image. {SAVE_AGAIN}")
    return dict(manifest)


def _open(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> IO[bytes]:
    """Open a file of the archive, following links inside it as `docker load` does."""
    target = _inside(name)
    for _ in range(10):
        member = members.get(target)
        if member is None:
            break
        if member.isfile() and not member.islnk():
            opened = archive.extractfile(member)
            if opened is not None:
                return opened
        base = posixpath.dirname(target) if member.issym() else ""
        target = _inside(posixpath.join(base, member.linkname))
    raise ArchiveInvalid(f"The archive lacks {name[:100]!r}. It was not saved completely. {SAVE_AGAIN}")


def _read(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> bytes:
    with _open(archive, members, name) as file:
        data = file.read(MOST_JSON_BYTES + 1)
    if len(data) > MOST_JSON_BYTES:
        raise ArchiveInvalid(f"{name[:100]!r} in the archive is too large. {SAVE_AGAIN}")
    return data


def _json(data: bytes, what: str, kind: type = dict) -> Any:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, kind):
        raise ArchiveInvalid(f"{what} in the archive cannot be read. {SAVE_AGAIN}")
    return document


def _check_layers(
    archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], layers: list[str], config: dict[str, Any]
) -> None:
    """Prove that each layer is the one its config names, and that together they unpack to a bounded size."""
    rootfs = config.get("rootfs")
    expected = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(expected, list) or len(expected) != len(layers) or not 1 <= len(layers) <= MOST_LAYERS:
        raise ArchiveInvalid(f"The image's config and its layers do not match. {SAVE_AGAIN}")
    budget = settings.IMAGE_ARCHIVE_MAX_BYTES * UNPACKED_FACTOR
    for name, diff_id in zip(layers, expected, strict=True):
        digest, size = _hash_layer(archive, members, name, budget)
        budget -= size
        if f"sha256:{digest}" != diff_id:
            raise ArchiveInvalid(f"The layer {name[:100]!r} is not what the image's config says. {SAVE_AGAIN}")


def _hash_layer(
    archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str, budget: int
) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with _open(archive, members, name) as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file = gzip.GzipFile(fileobj=raw) if packed else raw
        try:
            while chunk := file.read(CHUNK_BYTES):
                size += len(chunk)
                if size > budget:
                    raise ArchiveInvalid("The image unpacks to far more than an image may. Make it smaller.")
                digest.update(chunk)
        except (gzip.BadGzipFile, zlib.error, EOFError):
            raise ArchiveInvalid(f"The layer {name[:100]!r} is damaged. {SAVE_AGAIN}") from None
    return digest.hexdigest(), size


def _run_config(config: dict[str, Any]) -> dict[str, Any]:
    run = config.get("config")
    run = run if isinstance(run, dict) else {}
    exposed, volumes = run.get("ExposedPorts"), run.get("Volumes")
    ports = [re.fullmatch(r"(\d{1,5})(/tcp)?", str(port)) for port in (exposed if isinstance(exposed, dict) else {})]
    return {
        "ports": tuple(sorted({int(port[1]) for port in ports if port and 0 < int(port[1]) < 65536}))[:20],
        "volumes": tuple(sorted(str(path)[:300] for path in (volumes if isinstance(volumes, dict) else {})))[:20],
        "user": str(run.get("User") or "")[:100],
    }
