"""`docker save` archives: checked before Docker sees them, and handed over without the names they carry.

A stranger's archive may name its image `postgres:16`; loaded as it is, that name on the owner's device would from then on mean the
stranger's image. So names are left out on the way in.

An archive may describe its image twice: in manifest.json, and as an OCI layout. Docker's own store reads the first, Docker with
containerd's image store (the default since Docker 29) the second. We look at the first alone and hand over nothing of the other, so
that every Docker loads what was looked at.
"""

from __future__ import annotations

import hashlib
import json
import platform
import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nodes.agent import archive_rules
from nodes.agent.archive_rules import INDEX, LAYOUT, MANIFEST, NAMES
from nodes.agent.capacity import ARCHITECTURES
from nodes.agent.errors import ArchiveUnsound, LeaseError
from nodes.agent.protocol import Image, Reason

CHUNK_BYTES = 2**20
LEFT_OUT = (NAMES, INDEX, LAYOUT)


def check(path: Path, image: Image) -> "tuple[str, ...]":
    """Return the digests of the layers' unpacked archives if the file is the one that was released and holds the one image it should.

    Raises:
        LeaseError: `image_invalid`; also for what an image must not hold (archive_rules.py).
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != image.archive_sha256:
        raise _invalid("The downloaded archive is not the one that was released (its SHA-256 differs).")
    try:
        found = archive_rules.read(path)
    except ArchiveUnsound as error:
        raise _invalid(str(error)) from error
    _check_platform(found.config)
    if found.image_id != image.image_id:
        raise _invalid(f"The archive holds image {found.image_id[:19]}…, the release says {image.image_id[:19]}….")
    return tuple(found.config["rootfs"]["diff_ids"])


def _check_platform(config: "dict[str, Any]") -> None:
    made_for = (config.get("os"), config.get("architecture"))
    here = ARCHITECTURES.get(platform.machine(), platform.machine())
    if made_for != ("linux", here):
        words = f"The image is for {made_for[0]}/{made_for[1]} and this device is linux/{here}."
        raise _invalid(f"{words} Build it with: docker build --platform linux/{here}")


def nameless(path: Path) -> Iterator[bytes]:
    """Yield the archive as a tar stream in which the image has no name and is described once."""
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if posixpath.normpath(member.name) in LEFT_OUT:
                continue
            data = tar.extractfile(member) if member.isfile() else None
            if data is not None and member.name == MANIFEST:
                yield from _packed(member, [_without_names(json.loads(data.read()))])
            elif data is not None:
                yield from _packed(member, iter(lambda source=data: source.read(CHUNK_BYTES), b""))  # type: ignore[misc]
            else:
                yield member.tobuf(tarfile.PAX_FORMAT)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _packed(member: tarfile.TarInfo, chunks: Any) -> Iterator[bytes]:
    if member.name == MANIFEST:
        chunks = list(chunks)
        member.size = sum(map(len, chunks))
    yield member.tobuf(tarfile.PAX_FORMAT)
    yield from chunks
    yield bytes(-member.size % tarfile.BLOCKSIZE)


def _without_names(manifest: "list[dict[str, Any]]") -> bytes:
    return json.dumps([{**entry, "RepoTags": None} for entry in manifest]).encode()


def _invalid(message: str) -> LeaseError:
    return LeaseError(Reason.IMAGE_INVALID, message, permanent=True)
