"""`docker save` archives: checked before Docker sees them, and handed over without the names they carry.

A stranger's archive may name its image `postgres:16`; loaded as it is, that name on the owner's device would from then on mean the
stranger's image. So names are left out on the way in.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from nodes.agent import archive_rules
from nodes.agent.errors import LeaseError
from nodes.agent.protocol import Image, Reason

CHUNK_BYTES = 2**20
DOCUMENT_BYTES = 2**24
MANIFEST, NAMES, INDEX = "manifest.json", "repositories", "index.json"


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
    archive_rules.check(path)
    _check_names(path)
    found = image_id(path)
    if found != image.image_id:
        raise _invalid(f"The archive holds image {found[:19]}…, the release says {image.image_id[:19]}….")


def _check_names(path: Path) -> None:
    """Refuse what would make Docker read another manifest than the one `nameless` rewrites: a second spelling of its
    name, a link in its place, or a file below a linked folder."""
    try:
        with tarfile.open(path, "r:") as tar:
            members = [(posixpath.normpath(member.name).lstrip("/"), member) for member in tar]
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise _invalid("The file is not an archive made by `docker save`.") from error
    links = {name for name, member in members if member.issym() or member.islnk()}
    for name, member in members:
        plain = member.isreg() and member.name == name and member.size <= DOCUMENT_BYTES
        if name in (MANIFEST, NAMES, INDEX) and not plain:
            raise _invalid(
                f"The archive's {name} is not a plain file. Save the image again with: docker save NAME > FILE"
            )
        if any(str(folder) in links for folder in PurePosixPath(name).parents):
            raise _invalid(f"The archive puts {name[:100]!r} behind a link.")


def image_id(path: Path) -> str:
    """Return the id of the archive's one image, which is the SHA-256 of its configuration.

    Raises:
        LeaseError: `image_invalid`.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            manifest = json.loads(_member(tar, MANIFEST))
            if not isinstance(manifest, list) or len(manifest) != 1:
                raise _invalid("The archive must hold exactly one image. Save it with: docker save NAME > FILE")
            config = _member(tar, str(manifest[0]["Config"]))
    except (tarfile.TarError, OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise _invalid("The file is not an archive made by `docker save`.") from error
    return f"sha256:{hashlib.sha256(config).hexdigest()}"


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


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read(DOCUMENT_BYTES)


def _invalid(message: str) -> LeaseError:
    return LeaseError(Reason.IMAGE_INVALID, message, permanent=True)
