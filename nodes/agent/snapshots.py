"""Copies a volume into its app's repository, and brings one back, with restic.

**Copy**, asked for by `DesiredLease.snapshot_id`. 1. The portal opens the repository. 2. A lease that is to stop has
stopped: after this copy nothing is written. 3. The volume is there: a mount that is missing is never taken for an empty volume. 4. restic copies what is new. 5. The portal hears, signed.
A copy that breaks off leaves nothing that counts: restic writes its snapshot last. restic refuses to copy nothing, so the snapshot of a volume that
is there and empty holds one file that says so, which a restore takes away again.

**Restore**, asked for by `DesiredLease.restore`, before the first start of a lease. 1. `restored/<lease>` says whether it was done.
2. What is in the volume is removed. 3. restic brings the snapshot, and it is on the disk. 4. `restored/<lease>` is written. A restore that breaks off,
by a kill of the agent or a power cut too, begins again from 2: no app starts on half its data.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodes.agent import files, holdings, restic
from nodes.agent.errors import AgentError, Cancelled, LeaseError, PortalRefused
from nodes.agent.protocol import (
    REPOSITORY_PATH,
    Action,
    DesiredLease,
    Reason,
    SnapshotAccess,
    SnapshotAccessWish,
    SnapshotReport,
    to_json,
)

if TYPE_CHECKING:
    from nodes.agent.server_api import Portal

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.5
STOPPED_WITHIN_SECONDS = 120.0
MOST_CLAIMED = 4  # times its size: databases make a file larger than what is in it
EMPTY_NAME, EMPTY_WORDS = "volume-was-empty.txt", b"Nothing was in this volume when it was copied.\n"


class Snapshots:
    """The copies of one device, one at a time."""

    def __init__(
        self,
        folder: Path,
        *,
        device_id: str,
        sign: "Callable[[bytes], str]",
        portal: "Callable[[], Portal]",
        opened: "Callable[[str], AbstractContextManager[str]]",
        runs: "Callable[[str], bool]",
    ) -> None:
        """Args: folder: where `restored/` is. portal: returns a connection of its own. opened: where a workload's volume lies.
        runs: whether a lease has a process."""
        self._restored, self._cache = folder / "restored", folder / "restic"
        files.remove_folder(self._cache)  # of copies that a kill of the agent broke off
        self._device_id, self._sign, self._portal = device_id, sign, portal
        self._volume, self._runs = opened, runs
        self._known: "set[str]" = set()
        self._one = threading.Lock()

    def want(self, leases: "tuple[DesiredLease, ...]") -> None:
        """Begin the copies that are new; returns at once."""
        for lease in leases:
            if lease.snapshot_id and lease.snapshot_id not in self._known:
                self._known.add(lease.snapshot_id)
                threading.Thread(target=self._copy, args=(lease,), name="snapshot", daemon=True).start()
        self._known &= {lease.snapshot_id for lease in leases}
        self._forget({lease.lease_id for lease in leases})

    def restore(self, lease: DesiredLease, path: str, cancelled: threading.Event) -> None:
        """Let the volume at `path` hold what the lease is to begin with; returns at once if that was done.

        Raises:
            LeaseError: it cannot be brought; it is tried again.
            Cancelled: the portal changed its mind.
        """
        done = self._restored / lease.lease_id
        if not lease.restore.restic_id or done.exists():
            return
        log.info("lease %s: bringing its data from snapshot %s", lease.lease_id, lease.restore.restic_id[:8])
        try:
            files.empty_folder(Path(path))
            with self._opened(lease) as opened:
                restic.run(
                    opened.environment, "restore", lease.restore.restic_id, "--target", path, cancelled=cancelled
                )
            _take_away_note(Path(path))
            restic.flush(Path(path))
        except AgentError as error:
            if isinstance(error, Cancelled):
                raise
            raise LeaseError(
                Reason.DEVICE_ERROR, f"Its data could not be brought from the snapshot: {error}"
            ) from error
        files.private_folder(self._restored)
        files.write_atomic(done, lease.restore.restic_id.encode())

    def _copy(self, lease: DesiredLease) -> None:
        taken_at = datetime.now(timezone.utc).isoformat()
        report = SnapshotReport(lease.snapshot_id, lease.lease_id, self._device_id, taken_at)
        try:
            with self._one:
                summary = self._back_up(lease)
            report = SnapshotReport(
                lease.snapshot_id,
                lease.lease_id,
                self._device_id,
                taken_at,
                str(summary["snapshot_id"]),
                int(summary["total_bytes_processed"]),
                int(summary["data_added"]),
            )
        except AgentError as error:
            log.warning("lease %s: its volume could not be copied: %s", lease.lease_id, error)
            report = SnapshotReport(
                lease.snapshot_id, lease.lease_id, self._device_id, taken_at, message=str(error)[:300]
            )
        try:
            self._tell(report)
        except AgentError as error:
            log.warning("The portal could not be told of snapshot %s: %s", lease.snapshot_id, error)
            self._known.discard(
                lease.snapshot_id
            )  # the next desired state begins it again; restic adds only what is new

    def _back_up(self, lease: DesiredLease) -> "dict[str, Any]":
        waited = 0.0
        while lease.action is Action.STOP and self._runs(lease.lease_id):
            if waited > STOPPED_WITHIN_SECONDS:
                raise AgentError("The app did not stop, so its data was not copied.")
            time.sleep(LOOK_SECONDS)
            waited += LOOK_SECONDS
        with self._volume(lease.workload.id) as path, self._opened(lease) as opened:
            empty = _is_empty(path)
            _check_can_be_read(path, lease.workload.disk_bytes)
            # The same path everywhere: on the next device it lies somewhere else, and is to be compared with this.
            folder, what = (opened.note_that_it_is_empty(), EMPTY_NAME) if empty else (path, ".")
            arguments = ("backup", what, "--json", "--host", "interchain", "--ignore-inode", "--tag", lease.snapshot_id)
            out = restic.run(opened.environment, *arguments, folder=folder, new=True)
            # The summary of older versions has a short id only.
            listed = json.loads(restic.run(opened.environment, "snapshots", "--json", "--tag", lease.snapshot_id))
        lines = [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]
        summary = next((line for line in reversed(lines) if line.get("message_type") == "summary"), None)
        if summary is None or not listed:
            raise AgentError("restic did not say what it copied.")
        held = 0 if empty else summary["total_bytes_processed"]
        return {**summary, "total_bytes_processed": held, "snapshot_id": listed[-1]["id"]}

    def _tell(self, report: SnapshotReport) -> None:
        from nodes.agent.server_api import patiently

        portal = self._portal()
        try:
            patiently(lambda: portal.snapshot(self._sign(to_json(report))))
        except PortalRefused as error:
            log.warning("The portal did not take the report of snapshot %s: %s", report.snapshot_id, error)
        finally:
            portal.close()

    def _opened(self, lease: DesiredLease) -> "_Opened":
        from nodes.agent.server_api import patiently

        portal = self._portal()
        try:
            access = patiently(lambda: portal.snapshot_access(SnapshotAccessWish(lease.lease_id)))
        finally:
            portal.close()
        return _Opened(portal.url, lease.workload.id, access, self._cache / lease.workload.id)

    def _forget(self, lease_ids: "set[str]") -> None:
        if self._restored.is_dir():
            for path in self._restored.iterdir():
                if path.name not in lease_ids:
                    path.unlink(missing_ok=True)


def _is_empty(path: str) -> bool:
    """Return whether nothing is in the volume.

    Raises:
        AgentError: it cannot be looked into, which is something else.
    """
    try:
        with os.scandir(path) as found:
            return next(found, None) is None
    except OSError as error:
        raise AgentError(f"The volume cannot be read, so it was not copied: {error.strerror}.") from error


def _take_away_note(volume: Path) -> None:
    """Leave a volume empty whose snapshot is that of an empty one."""
    with os.scandir(volume) as found:
        first, second = next(found, None), next(found, None)
    if first is None or second is not None or first.name != EMPTY_NAME or not first.is_file(follow_symlinks=False):
        return
    if first.stat().st_size == len(EMPTY_WORDS) and Path(first.path).read_bytes() == EMPTY_WORDS:
        os.unlink(first.path)


def _check_can_be_read(path: str, disk_bytes: int) -> None:
    """Refuse a volume whose files say they are far larger than it: restic would read holes for days, and write them out as zeros.

    Raises:
        AgentError: in words for the publisher.
    """
    found = holdings.by_folder(path)
    if found.hidden:
        raise AgentError(f"Its data was not copied: it has folders more than {holdings.DEEPEST} deep.")
    if found.length > MOST_CLAIMED * disk_bytes:
        raise AgentError(
            f"Its data was not copied: with their holes its files come to {found.length / 1e9:.1f} GB, more than "
            f"{MOST_CLAIMED} times the {disk_bytes / 1e9:.1f} GB it may hold."
        )


class _Opened:
    """The environment restic runs in; its cache goes with it. Passwords are never arguments, which every user can see."""

    def __init__(self, portal: str, workload_id: str, access: SnapshotAccess, cache: Path) -> None:
        scheme, _, rest = portal.partition("://")
        self._cache = cache
        self.environment = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "HOME": str(cache),
            "RESTIC_REPOSITORY": f"rest:{scheme}://{access.user}:{access.password}@{rest}{REPOSITORY_PATH}{workload_id}/",
            "RESTIC_PASSWORD": access.key,
            "RESTIC_CACHE_DIR": str(cache / "cache"),  # nothing in it is ever copied
            "GOGC": "20",  # half the memory for a little more time
        }

    def __enter__(self) -> "_Opened":
        files.private_folder(self._cache)
        return self

    def note_that_it_is_empty(self) -> str:
        """Return a folder that has the one file of an empty volume's snapshot."""
        files.write_atomic(self._cache / EMPTY_NAME, EMPTY_WORDS, mode=0o644)
        return str(self._cache)

    def __exit__(self, *_: object) -> None:
        files.remove_folder(self._cache)
