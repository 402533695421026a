"""The one place that opens Redis (or Valkey): liveness, routes, wake-ups. Nothing here is the only copy of anything."""

from __future__ import annotations

from functools import lru_cache

import redis
import redis.asyncio
from django.conf import settings
from redis.commands.core import Script


@lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True, socket_timeout=5, socket_connect_timeout=2)


def connection() -> redis.Redis:
    """Return this process's pooled connection; replies are text."""
    return _client(settings.REDIS_URL)


@lru_cache(maxsize=16)
def _script(url: str, text: str) -> Script:
    return _client(url).register_script(text)


def script(text: str) -> Script:
    """Return a Lua script to call with `keys` and `args`: several commands in one round trip, all or none of them."""
    return _script(settings.REDIS_URL, text)


@lru_cache(maxsize=4)
def _binary_client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2)


def binary_connection() -> redis.Redis:
    """Return this process's pooled connection whose replies are bytes, for values that are no text."""
    return _binary_client(settings.REDIS_URL)


def async_connection() -> redis.asyncio.Redis:
    """Return a new asyncio client for the caller's loop; the caller closes it."""
    return redis.asyncio.Redis.from_url(settings.REDIS_URL, decode_responses=True)
