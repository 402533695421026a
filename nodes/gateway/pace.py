"""How many requests a second one client, and one app, may have: counted from the access log, so what is too much is let
through until it was read (a quarter of a second or so) and then refused for `REFUSED_SECONDS` (docs/adr/0743).

A token bucket each: `burst` seconds' worth may come at once. One client is one address, or one IPv6 household (64 bits).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings

REFUSED_SECONDS = 10.0
BURST_SECONDS = 2.0
LATE_SECONDS = 5.0  # what is read later, after an outage, says nothing of what is too much now
MOST_BUCKETS = 100_000
MOST_REFUSED = 1_000
EVERYBODY = "everybody"

HOUSEHOLD = r"^((?:[0-9a-f]+:){4}|(?:[0-9a-f]+:){2,3}:)"
"""What all addresses of 64 bits of IPv6 begin with, as they are written (RFC 5952). Caddy looks with the same (config.py)."""

Key = tuple[str, str]
"""Workload id and a client as `client_of` names it; EVERYBODY for the app as a whole."""


@dataclass
class Asked:
    """How often one key asked, between two moments (seconds of 1970)."""

    requests: int
    first_at: float
    last_at: float

    def once_more(self, at: float) -> None:
        self.requests += 1
        self.last_at = max(self.last_at, at)


@dataclass
class _Bucket:
    tokens: float
    at: float


@lru_cache(maxsize=10_000)
def client_of(address: str) -> str:
    """Return what is the same for all of one household: it has more addresses than there are requests."""
    found = re.match(HOUSEHOLD, address)
    return found[1] if found else address


class Pace:
    """Fed by the log's reader, asked by the syncer: two threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[Key, _Bucket] = {}
        self._refused: dict[Key, float] = {}
        self._limits: dict[str, float] = {}

    def limit(self, routes: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over the limits of single apps; the others have those of the settings."""
        limits = {
            route["workload_id"]: float(route["requests_per_second"])
            for route in routes.values()
            if route.get("requests_per_second")
        }
        with self._lock:
            self._limits = limits

    def count(self, asked: Mapping[Key, Asked]) -> None:
        """Note requests that reached apps: those of each client, and of EVERYBODY; once each."""
        late = time.time() - LATE_SECONDS
        with self._lock:
            for key, one in asked.items():
                if one.last_at < late:
                    continue
                rate = self._limits.get(key[0], float(settings.GATEWAY_APP_REQUESTS_PER_SECOND))
                if key[1] != EVERYBODY:
                    limits = (rate, float(settings.GATEWAY_CLIENT_REQUESTS_PER_SECOND))
                    rate = min((limit for limit in limits if limit > 0), default=0.0)
                self._take(key, rate, one)

    def refused(self) -> frozenset[Key]:
        """Return who is refused now."""
        now = time.time()
        with self._lock:
            self._refused = {key: until for key, until in self._refused.items() if until > now}
            if len(self._buckets) > MOST_BUCKETS:
                full = now - BURST_SECONDS
                self._buckets = {key: bucket for key, bucket in self._buckets.items() if bucket.at > full}
            return frozenset(self._refused)

    def _take(self, key: Key, rate: float, asked: Asked) -> None:
        if rate <= 0:
            return
        most = rate * BURST_SECONDS
        bucket = self._buckets.setdefault(key, _Bucket(most, asked.first_at))
        bucket.tokens = min(most, bucket.tokens + max(0.0, asked.first_at - bucket.at) * rate)
        # A stretch longer than a burst is no burst: what it had time for is not held against it.
        bucket.tokens += max(0.0, asked.last_at - max(asked.first_at, bucket.at)) * rate - asked.requests
        bucket.tokens = min(most, bucket.tokens)
        bucket.at = max(bucket.at, asked.last_at)
        if bucket.tokens < 0:
            bucket.tokens = 0.0
            if len(self._refused) < MOST_REFUSED:
                self._refused[key] = time.time() + REFUSED_SECONDS
