"""`docker save` archives: checked before Docker sees them, and handed over without the names they carry.

A stranger's archive may name its image `postgres:16`; loaded as it is, that name on the owner's device would from then on mean the
stranger's image. So names are left out on the way in.
"""

from __future__ import annotations

import hashlib
import json
import platform
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nodes.agent import archive_rules
from nodes.agent.archive_rules import INDEX, MANIFEST, NAMES
from nodes.agent.capacity import ARCHITECTURES
from nodes.agent.errors import ArchiveUnsound, LeaseError
from nodes.agent.protocol import Image, Reason

CHUNK_BYTES = 2**20


def check(path: Path, image: Image) -> None:
    """Return if the file is the archive that was released and holds the one image it should.

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


def _check_platform(config: "dict[str, Any]") -> None:
    made_for = (config.get("os"), config.get("architecture"))
    here = ARCHITECTURES.get(platform.machine(), platform.machine())
    if made_for != ("linux", here):
        words = f"The image is for {made_for[0]}/{made_for[1]} and this device is linux/{here}."
        raise _invalid(f"{words} Build it with: docker build --platform linux/{here}")


def nameless(path: Path) -> Iterator[bytes]:
    """Yield the archive as a tar stream in which the image has no name."""
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if member.name == NAMES:
                continue
            data = tar.extractfile(member) if member.isfile() else None
            if data is not None and member.name in (MANIFEST, INDEX):
                yield from _packed(member, [_without_names(member.name, json.loads(data.read()))])
            elif data is not None:
                yield from _packed(member, iter(lambda source=data: source.read(CHUNK_BYTES), b""))  # type: ignore[misc]
            else:
                yield member.tobuf(tarfile.PAX_FORMAT)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _packed(member: tarfile.TarInfo, chunks: Any) -> Iterator[bytes]:
    if member.name in (MANIFEST, INDEX):
        chunks = list(chunks)
        member.size = sum(map(len, chunks))
    yield member.tobuf(tarfile.PAX_FORMAT)
    yield from chunks
    yield bytes(-member.size % tarfile.BLOCKSIZE)


def _without_names(name: str, document: Any) -> bytes:
    if name == MANIFEST:
        document = [{**entry, "RepoTags": None} for entry in document]
    else:  # the OCI layout newer Engines write beside it
        for entry in document.get("manifests", []):
            entry.pop("annotations", None)
    return json.dumps(document).encode()


def _invalid(message: str) -> LeaseError:
    return LeaseError(Reason.IMAGE_INVALID, message, permanent=True)
