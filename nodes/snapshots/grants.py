"""Who may open a repository, for some hours: a random password for each, of which Redis keeps the hash.

Losing Redis costs a device one more question, nothing else.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass

from redis import RedisError

from interchain_site.core import redis
from nodes.errors import Busy

GRANT_SECONDS = 6 * 3600
"""A volume of 100 GB takes about that long over a line of 40 Mbit/s."""


@dataclass(frozen=True)
class Grant:
    """What one password opens."""

    workload_id: str
    may_remove: bool = False  # the portal's own worker, to remove what is past its time
    device_id: str = ""


def make(grant: Grant) -> tuple[str, str]:
    """Return a user name and a password for restic.

    Raises:
        Busy: Redis is away.
    """
    user, password = secrets.token_hex(8), secrets.token_urlsafe(32)
    try:
        redis.connection().set(_key(user, password), json.dumps(asdict(grant)), ex=GRANT_SECONDS)
    except RedisError:
        raise Busy from None
    return user, password


def find(user: str, password: str) -> Grant | None:
    """Return what these open, None if nothing (any more).

    Raises:
        Busy: Redis is away.
    """
    try:
        known = redis.connection().get(_key(user, password))
    except RedisError:
        raise Busy from None
    return Grant(**json.loads(known)) if known else None


def _key(user: str, password: str) -> str:
    return "nodes:snapshot-grant:" + hashlib.sha256(f"{user}:{password}".encode()).hexdigest()
