"""Reads Caddy's access log as it grows and counts, in Redis, who used each workload and how many bytes went by; tells of
upstreams that did not answer (suspicion.py) and of clients that ask too much (pace.py).

**Who is one active user:** one client address in one UTC month; of an IPv6 address the first 64 bits, which is what one
household or phone has. The user agent is left out on purpose: a client writes into it what it likes, and each new text
would cost the publisher a user. Several people behind one address count as one, which errs in the publisher's favour.
Only a keyed hash of the address enters the count (a HyperLogLog, within 1 %), never the address.

A line is counted at least once: the position is saved after Redis has the counts. Users do not mind being counted twice;
bytes after a crash may, and are only a cross-check.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import structlog
from django.conf import settings
from redis import RedisError

from interchain_site.core import redis
from nodes.gateway.log_lines import Visit, parsed
from nodes.gateway.pace import EVERYBODY, Asked, Key, Pace, client_of
from nodes.gateway.suspicion import Suspicions

DIRTY_KEY = "gateway:dirty"
KEEP_SECONDS = 70 * 86_400
POLL_SECONDS = 0.25
LINES_AT_ONCE = 2_000
HOUR_SECONDS = 3600

log = structlog.get_logger()


def users_key(workload_id: str, month: str) -> str:
    return f"gateway:users:{workload_id}:{month}"


def bytes_key(workload_id: str, month: str) -> str:
    return f"gateway:bytes:{workload_id}:{month}"


Month = tuple[str, str]
"""Workload id, and YYYY-MM in UTC."""


@dataclass
class Counts:
    """What a stretch of the log says."""

    users: dict[Month, set[str]] = field(default_factory=lambda: defaultdict(set))
    bytes: Counter[Month] = field(default_factory=Counter)
    asked: dict[Key, Asked] = field(default_factory=dict)

    def take(self, visits: Iterable[Visit]) -> None:
        """Count visits; those that did not reach an app count nothing."""
        for visit in visits:
            if not visit.reached_the_app or not _is_id(visit.workload_id):
                continue
            month = (visit.workload_id, _month(int(visit.at) // HOUR_SECONDS))
            self.users[month].add(visit.client)
            self.bytes[month] += visit.bytes
            for key in ((visit.workload_id, client_of(visit.client)), (visit.workload_id, EVERYBODY)):
                if (known := self.asked.get(key)) is not None:
                    known.once_more(visit.at)
                else:
                    self.asked[key] = Asked(1, visit.at, visit.at)

    def save(self) -> None:
        """Add all of it to Redis."""
        counted = {month: hashes for month, clients in self.users.items() if (hashes := _hashes(clients))}
        if not counted:
            return
        with redis.connection().pipeline() as pipeline:
            for (workload_id, month), hashes in counted.items():
                pipeline.pfadd(users_key(workload_id, month), *sorted(hashes))
                pipeline.expire(users_key(workload_id, month), KEEP_SECONDS)
                pipeline.incrby(bytes_key(workload_id, month), self.bytes[workload_id, month])
                pipeline.expire(bytes_key(workload_id, month), KEEP_SECONDS)
                pipeline.sadd(DIRTY_KEY, f"{workload_id}|{month}")
            pipeline.execute()


@lru_cache(maxsize=1_000)
def _month(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour * HOUR_SECONDS, tz=UTC):%Y-%m}"


@lru_cache(maxsize=10_000)
def _is_id(workload_id: str) -> bool:
    try:
        return str(UUID(workload_id)) == workload_id
    except ValueError:
        return False


def _hashes(clients: Iterable[str]) -> set[str]:
    found = set()
    for client in clients:
        with suppress(ValueError):
            found.add(client_hash(client))
    return found


def client_hash(address: str) -> str:
    """Return the keyed hash of a client's address, the same for one IPv6 household."""
    known = ipaddress.ip_address(address)
    if isinstance(known, ipaddress.IPv6Address):
        known = known.ipv4_mapped or ipaddress.IPv6Network((int(known) >> 64 << 64, 64)).network_address
    return hmac.new(settings.SECRET_KEY.encode(), f"client {known}".encode(), hashlib.sha256).hexdigest()


class Tail:
    """Call `run` in a thread; it ends soon after `stop` is set, and goes on where it was after any restart."""

    def __init__(self, stop: threading.Event, pace: Pace | None = None) -> None:
        self._stop, self._pace = stop, pace
        self._suspicions = Suspicions()
        self._path = Path(settings.GATEWAY_ACCESS_LOG)
        self._position_path = self._path.with_name(self._path.name + ".position")
        self._file: IO[bytes] | None = None

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                busy = self.step()
            except (RedisError, OSError) as error:
                log.warning("access_log_waits", error=str(error))
                self._close()
                busy = False
            if not busy:
                self._stop.wait(POLL_SECONDS)
        self._close()
        self._suspicions.close()

    def step(self) -> bool:
        """Count what is there now, at most `LINES_AT_ONCE` lines; returns whether there may be more at once."""
        if self._file is None and not self._open():
            return False
        assert self._file is not None  # noqa: S101  (opened above)
        counts, start = Counts(), self._file.tell()
        visits: list[Visit] = []
        lines = 0
        while lines < LINES_AT_ONCE and (line := self._file.readline()):
            if not line.endswith(b"\n"):
                self._file.seek(-len(line), os.SEEK_CUR)  # Caddy is still writing it
                break
            if (visit := parsed(line)) is not None:
                visits.append(visit)
            lines += 1
        self._suspicions.take(visits)
        counts.take(visits)
        counts.save()
        if self._pace is not None:  # only now: without Redis the same lines are read again and again
            self._pace.count(counts.asked)
        if self._file.tell() != start:
            self._save_position()
        return lines > 0 or self._next_file()

    def _open(self) -> bool:
        """Open the file the saved position is in, at that position; without one, the current file from its start."""
        position = self._position()
        for path in self._files():
            if path.stat().st_ino == position.get("inode"):
                self._file = path.open("rb")
                self._file.seek(min(int(position["offset"]), path.stat().st_size))
                return True
        if not self._path.exists():
            return False
        self._file = self._path.open("rb")
        return True

    def _next_file(self) -> bool:
        """At the end of a file that was rolled away, go on with the one after it."""
        assert self._file is not None  # noqa: S101  (only called while one is open)
        inode = os.fstat(self._file.fileno()).st_ino
        inodes = [path.stat().st_ino for path in self._files()]
        if inode in inodes and inodes[-1] == inode:
            return False
        later = self._files()[inodes.index(inode) + 1 :] if inode in inodes else self._files()
        if not later:
            return False
        rest = self._file.read()
        if b"\n" in rest:  # written just before it was rolled away
            self._file.seek(-len(rest), os.SEEK_CUR)
            return True
        self._close()
        self._file = later[0].open("rb")
        self._save_position()
        return True

    def _files(self) -> list[Path]:
        """Return the rolled files, oldest first, then the current one."""
        rolled = sorted(self._path.parent.glob(f"{self._path.stem}-*{self._path.suffix}"))
        return [*rolled, *([self._path] if self._path.exists() else [])]

    def _position(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._position_path.read_text()))
        except (OSError, ValueError):
            return {}

    def _save_position(self) -> None:
        assert self._file is not None  # noqa: S101  (only called while one is open)
        position = {"inode": os.fstat(self._file.fileno()).st_ino, "offset": self._file.tell()}
        temporary = self._position_path.with_suffix(".new")
        temporary.write_text(json.dumps(position))
        temporary.replace(self._position_path)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
