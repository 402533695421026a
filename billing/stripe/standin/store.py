"""The stand-in's memory: one SQLite file, so that a restart loses nothing."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Object = dict[str, Any]

_TABLES = """
CREATE TABLE IF NOT EXISTS objects (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS objects_by_kind ON objects (kind, seq);
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, request TEXT NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
  event_id TEXT PRIMARY KEY, attempts INTEGER NOT NULL, next_at REAL NOT NULL, delivered INTEGER NOT NULL, note TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS due (object_id TEXT PRIMARY KEY, at REAL NOT NULL, action TEXT NOT NULL);
"""


class Store:
    """Objects by id, answers by idempotency key, webhooks to deliver, and things to happen later."""

    def __init__(self, path: Path | str) -> None:
        if path != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.executescript(f"PRAGMA journal_mode=WAL; {_TABLES}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all of the block or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def put(self, thing: Object) -> Object:
        """Store an object under its id, new or changed."""
        row = self._db.execute("SELECT seq FROM objects WHERE id = ?", [thing["id"]]).fetchone()
        seq = row[0] if row else self._db.execute("SELECT coalesce(max(seq), 0) + 1 FROM objects").fetchone()[0]
        self._db.execute(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", [thing["id"], thing["object"], seq, json.dumps(thing)]
        )
        return thing

    def get(self, object_id: str, kind: str = "") -> Object | None:
        row = self._db.execute("SELECT kind, body FROM objects WHERE id = ?", [object_id]).fetchone()
        return json.loads(row[1]) if row and kind in ("", row[0]) else None

    def all(self, kind: str) -> list[Object]:
        """Return every object of a kind, newest first."""
        rows = self._db.execute("SELECT body FROM objects WHERE kind = ? ORDER BY seq DESC", [kind])
        return [json.loads(body) for (body,) in rows]

    def answer_for(self, key: str) -> tuple[str, int, Object] | None:
        """Return the request, status and body first answered under an idempotency key."""
        row = self._db.execute("SELECT request, status, body FROM answers WHERE key = ?", [key]).fetchone()
        return (row[0], row[1], json.loads(row[2])) if row else None

    def keep_answer(self, key: str, request: str, status: int, body: Object) -> None:
        self._db.execute("INSERT INTO answers VALUES (?, ?, ?, ?)", [key, request, status, json.dumps(body)])

    def deliver(self, event_id: str, at: float | None = None) -> None:
        """Queue an event for delivery, also one that was delivered before."""
        self._db.execute("INSERT OR REPLACE INTO deliveries VALUES (?, 0, ?, 0, '')", [event_id, at or time.time()])

    def deliveries_due(self, now: float) -> list[tuple[str, int]]:
        rows = self._db.execute(
            "SELECT event_id, attempts FROM deliveries JOIN objects ON objects.id = event_id"
            " WHERE NOT delivered AND next_at <= ? ORDER BY seq LIMIT 20",
            [now],
        )
        return list(rows)

    def note_delivery(self, event_id: str, *, attempts: int, delivered: bool, next_at: float, note: str) -> None:
        self._db.execute(
            "UPDATE deliveries SET attempts = ?, delivered = ?, next_at = ?, note = ? WHERE event_id = ?",
            [attempts, delivered, next_at, note, event_id],
        )

    def delivery(self, event_id: str) -> tuple[int, bool, str]:
        row = self._db.execute(
            "SELECT attempts, delivered, note FROM deliveries WHERE event_id = ?", [event_id]
        ).fetchone()
        return (row[0], bool(row[1]), row[2]) if row else (0, False, "")

    def later(self, object_id: str, at: float, action: str) -> None:
        """Have something happen to an object at a time."""
        self._db.execute("INSERT OR REPLACE INTO due VALUES (?, ?, ?)", [object_id, at, action])

    def take_due(self, now: float) -> list[tuple[str, str]]:
        """Return and forget what is due."""
        rows = self._db.execute("DELETE FROM due WHERE at <= ? RETURNING object_id, action", [now])
        return list(rows)


def new_id(prefix: str) -> str:
    """Return an id of Stripe's look, e.g. `pi_3f…`."""
    return f"{prefix}_{secrets.token_hex(12)}"
