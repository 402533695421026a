"""How many requests a second one client, and one app, may have: counted from the access log, so what is too much is let
through until it was read (a quarter of a second or so) and then refused for `REFUSED_SECONDS` (docs/adr/0743).

A token bucket each: `burst` seconds' worth may come at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

REFUSED_SECONDS = 10.0
BURST_SECONDS = 2.0
MOST_BUCKETS = 100_000
MOST_REFUSED = 1_000
EVERYBODY = "everybody"

Key = tuple[str, str]
"""Workload id and a client's address; EVERYBODY for the app as a whole."""


@dataclass
class _Bucket:
    tokens: float
    at: float


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

    def count(self, workload_id: str, client: str, at: float) -> None:
        """Note one request that reached an app, at `at` (seconds of 1970)."""
        with self._lock:
            everybody = self._limits.get(workload_id, float(settings.GATEWAY_APP_REQUESTS_PER_SECOND))
            self._take((workload_id, EVERYBODY), everybody, at)
            one = min(everybody, float(settings.GATEWAY_CLIENT_REQUESTS_PER_SECOND))
            self._take((workload_id, client), one, at)

    def refused(self) -> frozenset[Key]:
        """Return who is refused now."""
        now = time.time()
        with self._lock:
            self._refused = {key: until for key, until in self._refused.items() if until > now}
            if len(self._buckets) > MOST_BUCKETS:
                full = now - BURST_SECONDS
                self._buckets = {key: bucket for key, bucket in self._buckets.items() if bucket.at > full}
            return frozenset(self._refused)

    def _take(self, key: Key, rate: float, at: float) -> None:
        if rate <= 0:
            return
        bucket = self._buckets.setdefault(key, _Bucket(rate * BURST_SECONDS, at))
        bucket.tokens = min(rate * BURST_SECONDS, bucket.tokens + max(0.0, at - bucket.at) * rate) - 1
        bucket.at = max(bucket.at, at)
        if bucket.tokens < 0:
            bucket.tokens = 0.0
            if len(self._refused) < MOST_REFUSED:
                self._refused[key] = time.time() + REFUSED_SECONDS
