"""Keep image archives (`docker save` files) that publishers upload, by their SHA-256, after looking hard at what is inside.

A stored archive is a plain tar of exactly one Linux image whose config and layers are what they claim to be.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from django.conf import settings

from nodes.errors import ArchiveInvalid, NotFound
from nodes.models import Device, Lease
from nodes.services.image_tar import ArchiveInfo, inspect
from nodes.states import HOLDS_MEMORY, WANTED

__all__ = ["ArchiveInfo", "path_for_device", "path_of", "remove", "store"]

CHUNK_BYTES = 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def store(stream: BinaryIO) -> ArchiveInfo:
    """Keep the archive and return what is in it. Storing the same one again is free. Accepts `docker save`, also gzipped.

    Raises:
        ArchiveInvalid: it is too large or not an image archive; the message says what is wrong and what to do.
    """
    folder = Path(settings.MEDIA_ROOT) / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".upload-", dir=folder)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            sha256, size = _copy(stream, file)
            file.flush()
            os.fsync(file.fileno())
        info = inspect(temporary, sha256=sha256, size=size)
        temporary.replace(folder / sha256)
        return info
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def path_of(sha256: str) -> Path:
    """Return where a stored archive is.

    Raises:
        NotFound: it is not stored.
    """
    path = Path(settings.MEDIA_ROOT) / "archives" / sha256
    if not _SHA256.match(sha256) or not path.is_file():
        raise NotFound("There is no such image archive.")
    return path


def path_for_device(*, device: Device, sha256: str) -> Path:
    """Return where the archive is, if a lease of this device needs it now.

    Raises:
        NotFound: it is not stored, or none of this device's business.
    """
    needed = Lease.objects.filter(device=device, image_key=sha256, action__in=WANTED, state__in=HOLDS_MEMORY).exists()
    if not needed:
        raise NotFound("There is no such image archive.")
    return path_of(sha256)


def remove(sha256: str) -> None:
    """Delete a stored archive that no release uses any more; one that is not there is fine."""
    with suppress(NotFound):
        path_of(sha256).unlink(missing_ok=True)


def _copy(stream: BinaryIO, file: BinaryIO) -> tuple[str, int]:
    """Write the tar to the file, unpacking gzip on the way; return its hash and size."""
    digest, size = hashlib.sha256(), 0
    try:
        for chunk in _plain(stream):
            size += len(chunk)
            if size > settings.IMAGE_ARCHIVE_MAX_BYTES:
                most = settings.IMAGE_ARCHIVE_MAX_BYTES // 10**6
                raise ArchiveInvalid(
                    f"The archive is larger than {most} MB. Make the image smaller, or use a registry."
                )
            digest.update(chunk)
            file.write(chunk)
    except (gzip.BadGzipFile, zlib.error, EOFError):
        raise ArchiveInvalid("The gzip file is damaged. Save the image again: docker save NAME > image.tar") from None
    return digest.hexdigest(), size


def _plain(stream: BinaryIO) -> Iterator[bytes]:
    first = stream.read(CHUNK_BYTES)
    if first[:2] != b"\x1f\x8b":
        yield first
        yield from iter(lambda: stream.read(CHUNK_BYTES), b"")
        return
    unpacker = zlib.decompressobj(wbits=31)
    packed = first
    while packed and not unpacker.eof:  # what follows the end would pile up in memory
        yield unpacker.decompress(packed, CHUNK_BYTES)
        packed = unpacker.unconsumed_tail or stream.read(CHUNK_BYTES)
    if not unpacker.eof:
        raise EOFError
