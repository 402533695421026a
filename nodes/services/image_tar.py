"""Look inside a `docker save` archive without trusting or unpacking it, by the same rules as every device (nodes/agent/archive_rules.py)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from nodes.agent import archive_rules
from nodes.agent.errors import ArchiveUnsound
from nodes.errors import ArchiveInvalid

UNPACKED_FACTOR = 4
"""Layers may be gzipped inside; unpacked they may be this many times IMAGE_ARCHIVE_MAX_BYTES together."""
ARCHITECTURES = frozenset({"amd64", "arm64"})


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


def inspect(path: Path, *, sha256: str, size: int) -> ArchiveInfo:
    """Return what the archive holds.

    Raises:
        ArchiveInvalid: it is not exactly one sound Linux image that some device may run.
    """
    try:
        found = archive_rules.read(path, most_unpacked_bytes=settings.IMAGE_ARCHIVE_MAX_BYTES * UNPACKED_FACTOR)
    except ArchiveUnsound as error:
        raise ArchiveInvalid(str(error)) from None
    os, architecture = found.config.get("os"), found.config.get("architecture")
    if os != "linux" or architecture not in ARCHITECTURES:
        raise ArchiveInvalid(
            f"The image is for {os}/{architecture}. Build it for linux/amd64 (docker build --platform)."
        )
    return ArchiveInfo(
        sha256=sha256,
        bytes=size,
        image_id=found.image_id,
        architecture=str(architecture),
        tags=tuple(tag[:300] for tag in found.tags)[:20],
        **_run_config(found.config),
    )


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
