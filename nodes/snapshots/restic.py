"""restic as the portal runs it, on a repository through its own REST view: whatever the storage behind it is.

Raises `ResticFailed` with restic's last words.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from interchain_site.core.errors import DomainError
from nodes.agent.protocol import REPOSITORY_PATH
from nodes.models import SnapshotRepository
from nodes.snapshots import grants
from nodes.snapshots.grants import Grant

RUN_SECONDS = 1800
CHUNK_BYTES = 256 * 1024
KEEP = ("--keep-last=3", "--keep-hourly=24", "--keep-daily=7", "--keep-weekly=4")
"""Retention: the last three, and one for each of the last 24 hours, 7 days and 4 weeks that had any."""


class ResticFailed(DomainError):
    code, status, permanent = "snapshots_unavailable", 503, False
    message = "The snapshots cannot be read now. Try again in a moment."


@contextmanager
def access(repository: SnapshotRepository, *, may_remove: bool = False) -> Iterator[dict[str, str]]:
    """Open a repository for a run of restic; yields its environment. Passwords are never arguments, which others can see."""
    user, password = grants.make(Grant(str(repository.workload_id), may_remove=may_remove))
    parts = urlsplit(settings.SNAPSHOTS_PORTAL_URL)
    with tempfile.TemporaryDirectory(prefix="restic-") as cache:
        yield {
            "PATH": os.environ.get("PATH", "/usr/bin"),
            "HOME": cache,
            "RESTIC_REPOSITORY": f"rest:{parts.scheme}://{user}:{password}@{parts.netloc}{REPOSITORY_PATH}{repository.workload_id}/",
            "RESTIC_PASSWORD": repository.key,
            "RESTIC_CACHE_DIR": cache,
        }


def tidy(repository: SnapshotRepository) -> set[str]:
    """Remove snapshots past their time and what only they held; returns the ids of those that are left.

    Raises:
        ResticFailed: try again later.
    """
    with access(repository, may_remove=True) as opened:
        _run(opened, "unlock")  # only locks of runs that died
        _run(opened, "forget", "--group-by=", *KEEP, "--prune")
        return {str(row["id"]) for row in _json(_run(opened, "snapshots", "--json"))}


async def archive(repository: SnapshotRepository, restic_id: str) -> AsyncIterator[bytes]:
    """Yield a snapshot as a tar file while restic reads it.

    Raises:
        ResticFailed: in the middle, so that what arrived does not look whole.
    """
    with access(repository) as environment:
        process = await asyncio.create_subprocess_exec(
            "restic", "--no-lock", "dump", "--archive", "tar", restic_id, "/",
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None  # noqa: S101  (asked for)
        try:
            while chunk := await process.stdout.read(CHUNK_BYTES):
                yield chunk
            if await process.wait() != 0:
                raise ResticFailed
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _run(environment: dict[str, str], *arguments: str) -> bytes:
    try:
        done = subprocess.run(
            ["restic", *arguments], env=environment, capture_output=True, timeout=RUN_SECONDS, check=False
        )
    except FileNotFoundError:
        raise ResticFailed("restic is not installed on the server. Type: apt-get install restic") from None
    except subprocess.TimeoutExpired:
        raise ResticFailed from None
    if done.returncode != 0:
        raise ResticFailed(f"restic {arguments[0]}: {done.stderr.decode(errors='replace').strip()[-200:]}")
    return done.stdout


def _json(data: bytes) -> Any:
    return json.loads(data or b"[]") or []
