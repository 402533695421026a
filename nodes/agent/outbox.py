"""Signed readings the portal has not confirmed yet: one file per batch, on disk before anybody knows of it.

Readings are cumulative, so batches may arrive twice, late or never: the next one says it all again. When too many wait, the
oldest are merged into one (of each counter the highest total stays) and signed anew; none is dropped.
"""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path

from nodes.agent import files
from nodes.agent.keys import DeviceKey
from nodes.agent.protocol import MAX_READINGS_PER_BATCH, Reading, ReadingBatch, from_json, to_json

MOST_BATCHES = 64
KEPT_REFUSALS = 20


class Outbox:
    """The folder of waiting batches. Safe to call from any thread."""

    def __init__(self, folder: Path, *, key: DeviceKey, device_id: str, most: int = MOST_BATCHES) -> None:
        self._folder, self._key, self._device_id, self._most = folder, key, device_id, most
        self._lock = threading.Lock()
        files.private_folder(folder)
        for half in folder.glob(".*.tmp"):  # a crash in the middle of writing; its readings are in the meters still
            half.unlink()
        self._next = max((int(path.name.split("-")[0]) for path in self._waiting()), default=0) + 1

    def put(self, readings: "Iterable[Reading]", *, at: "datetime | None" = None) -> None:
        """Sign the readings and put them on disk, oldest batches merged if there are too many."""
        waiting = list(readings)
        with self._lock:
            for start in range(0, len(waiting), MAX_READINGS_PER_BATCH):
                self._write(tuple(waiting[start : start + MAX_READINGS_PER_BATCH]), at or datetime.now(timezone.utc))
            if len(self._waiting()) > self._most:
                self._merge()

    def oldest(self) -> "tuple[str, str] | None":
        """Return (name, JWS) of the batch to send next, or None."""
        with self._lock:
            for path in self._waiting():
                return path.name, path.read_text()
            return None

    def confirmed(self, name: str) -> None:
        """Drop a batch the portal has accepted."""
        with self._lock:
            files.remove(self._folder / name)

    def refused(self, name: str) -> None:
        """Set a batch aside that the portal will never take, so that it does not stop the ones behind it."""
        with self._lock:
            aside = files.private_folder(self._folder / "refused")
            if (self._folder / name).exists():
                (self._folder / name).replace(aside / name)
            for old in sorted(aside.iterdir())[:-KEPT_REFUSALS]:
                old.unlink()

    def __len__(self) -> int:
        return len(self._waiting())

    def _write(self, readings: "tuple[Reading, ...]", at: datetime) -> None:
        batch = ReadingBatch(str(uuid.uuid4()), self._device_id, at.isoformat(), readings)
        path = self._folder / f"{self._next:012d}-{batch.id}.jws"
        files.write_atomic(path, self._key.sign(to_json(batch)).encode())
        self._next += 1

    def _merge(self) -> None:
        """Turn the older half into as few batches as hold it, the new written before the old go."""
        old = self._waiting()[: self._most // 2]
        best: dict[tuple[str, str], Reading] = {}
        newest_at = ""
        for path in old:
            batch = _payload(path.read_text())
            newest_at = max(newest_at, batch.created_at)
            for reading in batch.readings:
                kept = best.get((reading.lease_id, reading.meter.value))
                if kept is None or reading.total > kept.total:
                    best[(reading.lease_id, reading.meter.value)] = reading
        merged = list(best.values())
        for start in range(0, len(merged), MAX_READINGS_PER_BATCH):
            self._write(tuple(merged[start : start + MAX_READINGS_PER_BATCH]), datetime.fromisoformat(newest_at))
        for path in old:
            path.unlink()
        files.sync_folder(self._folder)

    def _waiting(self) -> "list[Path]":
        return sorted(self._folder.glob("*.jws"))


class Receipts:
    """Signed wipe receipts, one file per lease, kept until the portal has taken them."""

    def __init__(self, folder: Path) -> None:
        self._folder = files.private_folder(folder)

    def put(self, lease_id: str, jws: str) -> None:
        files.write_atomic(self._folder / f"{lease_id}.jws", jws.encode())

    def has(self, lease_id: str) -> bool:
        """Whether the lease was wiped, confirmed or not."""
        return any((self._folder / f"{lease_id}{ending}").exists() for ending in (".jws", ".sent"))

    def waiting(self) -> "list[tuple[str, str]]":
        """Return (lease id, JWS) of each receipt not confirmed yet."""
        return [(path.stem, path.read_text()) for path in sorted(self._folder.glob("*.jws"))]

    def confirmed(self, lease_id: str) -> None:
        """Note that the portal has the receipt; the lease stays known as wiped."""
        (self._folder / f"{lease_id}.jws").replace(self._folder / f"{lease_id}.sent")
        files.sync_folder(self._folder)

    def forget(self, is_listed: "Callable[[str], bool]") -> None:
        """Drop confirmed receipts of leases the portal no longer names."""
        for path in self._folder.glob("*.sent"):
            if not is_listed(path.stem):
                files.remove(path)


def _payload(jws: str) -> ReadingBatch:
    part = jws.split(".")[1]
    return from_json(ReadingBatch, json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))
