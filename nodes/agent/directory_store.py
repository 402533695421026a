"""The directory on the agent's disk: the newest record of each name, and a digest of all of them for anti-entropy.

SQLite, because 100,000 records are 45 MB and the agent may hold 32 MB of memory: what is not asked for stays on disk. Everything
in the file can be had again from the portal or a peer, so a damaged one is thrown away.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import random
import sqlite3
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from enum import Enum
from pathlib import Path

from nodes.agent import records
from nodes.agent.records import BadRecord, Record, Stale, Trust

log = logging.getLogger(__name__)
MOST_RECORDS = 200_000
BUCKETS, DIGEST_BYTES = 1024, 4
CACHE_KIB = 256
_TABLES = """
CREATE TABLE IF NOT EXISTS record (
  name TEXT PRIMARY KEY, bucket INTEGER NOT NULL, sequence INTEGER NOT NULL, generation INTEGER NOT NULL,
  workload_id TEXT NOT NULL, expires INTEGER NOT NULL, jws TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS record_bucket ON record (bucket, name, sequence);
CREATE INDEX IF NOT EXISTS record_expires ON record (expires);
CREATE INDEX IF NOT EXISTS record_workload ON record (workload_id);
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class Outcome(Enum):
    TAKEN = "taken"
    KNOWN = "known"  # we have it, or something newer
    STALE = "stale"


class Store:
    """Safe to use from any thread."""

    def __init__(self, path: Path, *, key: str = "") -> None:
        """Args: key: the first directory key the owner's portal named at enrolment; empty: the first one the portal names."""
        self._lock = threading.RLock()
        self._path = path
        self._database = self._open()
        first = self.fact("key") or key
        if key and first != key:  # enrolled anew, at a portal with another key
            self._database.executescript("DELETE FROM record; DELETE FROM fact;")
            first = key
        if first:
            self.set_fact("key", first)
        self.trust = Trust(first, self.fact("statements").split()) if first else None
        self._read_digest()

    # --- what is trusted ----------------------------------------------------------------------------------------------

    def learn_keys(self, first: str, statements: Iterable[str]) -> None:
        """Take what the portal (over its own connection) or a peer says of the keys; a peer's `first` is not asked for."""
        with self._lock:
            if self.trust is None and first:
                self.trust = Trust(first)
                self.set_fact("key", first)
            if self.trust is not None and self.trust.follow(statements):
                self.set_fact("key", self.trust.first)
                self.set_fact("statements", " ".join(self.trust.statements))

    # --- records ------------------------------------------------------------------------------------------------------

    def put(self, compact: str, now: "float | None" = None) -> Outcome:
        """Take a record if it is signed and newer than ours.

        Raises:
            BadRecord: whoever sent it is not honest, or no key is known yet.
        """
        now = time.time() if now is None else now
        if self.trust is None:
            raise BadRecord("no directory key is known yet")
        try:
            record = records.read(compact, self.trust.keys(now), now)
        except Stale:
            return Outcome.STALE
        with self._lock:
            held = self._database.execute(
                "SELECT jws, sequence, workload_id, generation FROM record WHERE name = ?", (record.name,)
            ).fetchone()
            if held is not None and not _supersedes(record, held):
                return Outcome.KNOWN
            if held is None and self._count >= MOST_RECORDS:
                return Outcome.KNOWN
            if held is not None:
                self._mark(record.name, int(held[1]))
            self._count += held is None
            row = (
                record.name, bucket_of(record.name), record.sequence, record.generation, record.workload_id, record.expires, compact,
            )  # fmt: skip
            self._database.execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            self._mark(record.name, record.sequence)
        return Outcome.TAKEN

    def get(self, name: str, now: "float | None" = None) -> "str | None":
        """Return the newest record of a name as it was signed, or None."""
        with self._lock:
            row = self._database.execute("SELECT jws, expires FROM record WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row is not None and row[1] > (time.time() if now is None else now) else None

    def of_workloads(self, workload_ids: Iterable[str]) -> "dict[str, Record]":
        """Return the newest record of each of these workloads that has one."""
        now, found = time.time(), {}
        for workload_id in workload_ids:
            with self._lock:
                row = self._database.execute(
                    "SELECT jws FROM record WHERE workload_id = ? ORDER BY sequence DESC", (workload_id,)
                ).fetchone()
            if row is not None and self.trust is not None:
                try:
                    found[workload_id] = records.read(str(row[0]), self.trust.keys(now), now)
                except ValueError:
                    continue
        return found

    def expire(self, now: "float | None" = None, *, most: int = 1000) -> int:
        """Forget records that are over; returns how many."""
        now = time.time() if now is None else now
        with self._lock:
            rows = self._database.execute(
                "SELECT name, sequence FROM record WHERE expires <= ? LIMIT ?", (int(now), most)
            ).fetchall()
            for name, sequence in rows:
                self._mark(name, int(sequence))
            self._database.executemany("DELETE FROM record WHERE name = ?", [(name,) for name, _ in rows])
            self._count -= len(rows)
            self.commit()
        return len(rows)

    def count(self) -> int:
        return self._count

    def commit(self) -> None:
        with self._lock:
            self._database.commit()

    def close(self) -> None:
        with self._lock:
            self._database.commit()
            self._database.close()

    # --- anti-entropy -------------------------------------------------------------------------------------------------

    def digest(self) -> str:
        """Return BUCKETS × DIGEST_BYTES bytes, base64: each the XOR of a hash of every (name, sequence) in the bucket."""
        with self._lock:
            return base64.b64encode(bytes(self._digest)).decode()

    def differing(self, digest: str, *, most: int) -> "list[int]":
        """Return at most so many buckets, picked at random, in which a peer's digest differs from ours.

        Raises:
            BadRecord: it is no digest.
        """
        try:
            theirs = base64.b64decode(digest, validate=True)
        except ValueError:
            raise BadRecord("no digest") from None
        if len(theirs) != BUCKETS * DIGEST_BYTES:
            raise BadRecord("no digest")
        with self._lock:
            ours = bytes(self._digest)
        places = range(0, len(ours), DIGEST_BYTES)
        found = [at // DIGEST_BYTES for at in places if ours[at : at + DIGEST_BYTES] != theirs[at : at + DIGEST_BYTES]]
        return random.sample(found, min(most, len(found)))

    def listing(self, bucket: int) -> "dict[str, int]":
        """Return the sequence of each name in a bucket."""
        with self._lock:
            rows = self._database.execute("SELECT name, sequence FROM record WHERE bucket = ?", (bucket,))
            return {str(name): int(sequence) for name, sequence in rows}

    def compare(self, bucket: int, theirs: "dict[str, int]") -> "tuple[list[str], list[str]]":
        """Return names we have newer than they, and names they have newer than we."""
        ours = self.listing(bucket)
        newer = [name for name, sequence in ours.items() if sequence > theirs.get(name, 0)]
        wanted = [name for name, sequence in theirs.items() if sequence > ours.get(name, 0)]
        return newer, wanted

    # --- small facts --------------------------------------------------------------------------------------------------

    def fact(self, name: str) -> str:
        with self._lock:
            row = self._database.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row is not None else ""

    def set_fact(self, name: str, value: str) -> None:
        with self._lock:
            self._database.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))
            self._database.commit()

    # --- inside -------------------------------------------------------------------------------------------------------

    def roll_back(self) -> None:
        """Forget what was put since the last commit."""
        with self._lock:
            self._database.rollback()
            self._read_digest()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            log.warning("%s is damaged (%s). Asking the portal and peers for all of it again.", self._path, error)
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(str(self._path), check_same_thread=False, cached_statements=16)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            database.execute("PRAGMA journal_size_limit = 1048576")
            database.executescript(_TABLES)
            database.execute("SELECT count(*) FROM record").fetchone()
        except sqlite3.DatabaseError:
            database.close()
            raise
        return database

    def _read_digest(self) -> None:
        self._digest, self._count = bytearray(BUCKETS * DIGEST_BYTES), 0
        with closing(self._database.execute("SELECT name, sequence FROM record")) as rows:
            for name, sequence in rows:
                self._mark(name, sequence)
                self._count += 1

    def _mark(self, name: str, sequence: int) -> None:
        """Put a record into the digest, or take it out: XOR is its own inverse."""
        at = bucket_of(name) * DIGEST_BYTES
        for offset, byte in enumerate(hashlib.sha256(f"{name}:{sequence}".encode()).digest()[:DIGEST_BYTES]):
            self._digest[at + offset] ^= byte


def bucket_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % BUCKETS


def _supersedes(record: Record, held: "tuple[str, int, str, int]") -> bool:
    if record.workload_id == held[2] and record.generation < held[3]:
        return False
    return record.sequence > held[1]
