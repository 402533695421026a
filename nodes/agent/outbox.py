"""Signed readings the portal has not confirmed yet: one file per batch, on disk before anybody knows of it.

Readings are cumulative, so batches may arrive twice, late or never: the next one says it all again. When too many wait, the
oldest are merged into one (of each counter the highest total stays) and signed anew; none is dropped. A file's name carries
a hash of what is in it, so that what a failing disk made of a batch is neither sent nor signed again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from nodes.agent import files
from nodes.agent.keys import DeviceKey
from nodes.agent.protocol import MAX_READINGS_PER_BATCH, ProtocolError, Reading, ReadingBatch, from_json, to_json

MOST_BATCHES = 64
KEPT_REFUSALS = 20
AGAIN = "again"  # ends the name of a batch whose readings were refused once


class Outbox:
    """The folder of waiting batches. Safe to call from any thread.

    Attributes:
        lost: how many batches could be delivered in no way; whoever has the totals should say them again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        key: DeviceKey,
        device_id: str,
        most: int = MOST_BATCHES,
        now: "Callable[[], float]" = time.time,
    ) -> None:
        """Args: now: seconds since 1970 by the portal's clock, as far as it is known."""
        self._folder, self._key, self._device_id, self._most, self._now = folder, key, device_id, most, now
        self.lost = 0
        self._lock = threading.Lock()
        files.private_folder(folder)
        for half in folder.glob(".*.tmp"):  # a crash in the middle of writing; its readings are in the meters still
            half.unlink()
        self._next = max((int(path.name.split("-")[0]) for path in self._waiting()), default=0) + 1

    def put(self, readings: "Iterable[Reading]") -> None:
        """Sign the readings and put them on disk, oldest batches merged if there are too many."""
        with self._lock:
            self._write_all(list(readings), self._moment())
            if len(self._waiting()) > self._most:
                self._merge()

    def oldest(self) -> "tuple[str, str] | None":
        """Return (name, JWS) of the batch to send next, or None."""
        with self._lock:
            for path in self._waiting():
                jws = _intact(path)
                if jws is not None:
                    return path.name, jws
                self._lose(path)
            return None

    def confirmed(self, name: str) -> None:
        """Drop a batch the portal has accepted."""
        with self._lock:
            files.remove(self._folder / name)

    def refused(self, name: str) -> None:
        """Set a batch aside that the portal will never take, so that it does not stop the ones behind it.

        Its readings are signed once more, dated no later than the portal's clock and with the key in force: a wrong clock or
        a key replaced meanwhile loses nothing.
        """
        with self._lock:
            path = self._folder / name
            jws = _intact(path)
            if jws is None or path.stem.endswith(AGAIN):
                self._lose(path)
                return
            batch = _payload(jws)
            self._write_all(list(batch.readings), datetime.fromisoformat(batch.created_at), ending=AGAIN)
            self._set_aside(path)

    def __len__(self) -> int:
        return len(self._waiting())

    def _moment(self) -> datetime:
        return datetime.fromtimestamp(self._now(), timezone.utc)

    def _write_all(self, readings: "list[Reading]", at: datetime, *, ending: str = "") -> None:
        latest = self._moment()
        for start in range(0, len(readings), MAX_READINGS_PER_BATCH):
            part = tuple(_no_later(item, latest) for item in readings[start : start + MAX_READINGS_PER_BATCH])
            self._write(part, min(at, latest), ending)

    def _write(self, readings: "tuple[Reading, ...]", at: datetime, ending: str) -> None:
        batch = ReadingBatch(str(uuid.uuid4()), self._device_id, at.isoformat(), readings)
        jws = self._key.sign(to_json(batch)).encode()
        stem = "-".join(filter(None, (f"{self._next:012d}", batch.id, _hash(jws), ending)))
        files.write_atomic(self._folder / f"{stem}.jws", jws)
        self._next += 1

    def _merge(self) -> None:
        """Turn the older half into as few batches as hold it.

        1. The highest total of each counter. 2. They are signed anew and on disk. 3. The old ones go, one by one.
        Killed between 2 and the end of 3, some are said twice, which changes nothing.
        """
        old = self._waiting()[: self._most // 2]
        best: dict[tuple[str, str], Reading] = {}
        newest = datetime.fromtimestamp(0, timezone.utc)
        for path in old:
            jws = _intact(path)
            if jws is None:
                self._lose(path)
                continue
            batch = _payload(jws)
            newest = max(newest, datetime.fromisoformat(batch.created_at))
            for reading in batch.readings:
                kept = best.get((reading.lease_id, reading.meter.value))
                if kept is None or reading.total > kept.total:
                    best[(reading.lease_id, reading.meter.value)] = reading
        self._write_all(list(best.values()), newest)
        for path in old:
            path.unlink(missing_ok=True)
        files.sync_folder(self._folder)

    def _lose(self, path: Path) -> None:
        self.lost += 1
        self._set_aside(path)

    def _set_aside(self, path: Path) -> None:
        aside = files.private_folder(self._folder / "refused")
        if path.exists():
            path.replace(aside / path.name)
        for old in sorted(aside.iterdir())[:-KEPT_REFUSALS]:
            old.unlink()

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


def _intact(path: Path) -> "str | None":
    """Return what a file holds, or None if it is gone or is not what was written. Names of older agents carry no hash."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    known = path.stem.split("-")[6:7]  # after the number and the five parts of the batch's id
    if known and known != [_hash(data)]:
        return None
    try:
        jws = data.decode()
        _payload(jws)
    except (ValueError, IndexError, ProtocolError):
        return None
    return jws


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _no_later(reading: Reading, latest: datetime) -> Reading:
    return replace(reading, at=min(datetime.fromisoformat(reading.at), latest).isoformat())


def _payload(jws: str) -> ReadingBatch:
    part = jws.split(".")[1]
    return from_json(ReadingBatch, json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))
