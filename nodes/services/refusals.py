"""Leave a trace of what was refused, without letting an attacker fill the disk with traces."""

from __future__ import annotations

from typing import Any

import structlog
from redis import RedisError

from interchain_site.core import audit, redis
from interchain_site.core.errors import DomainError
from nodes.models import Device

MOST_PER_HOUR = 20
"""Audit rows per hour for one device, and for all unknown callers together."""

log = structlog.get_logger()


def record(error: DomainError, *, device: Device | None, path: str) -> None:
    """Audit a refused request of a device (or of nobody known), at most `MOST_PER_HOUR` times an hour each."""
    note("request_refused", device=device, code=error.code, message=error.message[:300], path=path[:200])


def note(action: str, *, device: Device | None, **data: Any) -> None:
    """Write an audit row about a device's misbehaviour, rate-limited; what is over the limit only goes to the log."""
    subject = f"device:{device.pk}" if device else "device:unknown"
    if _allowed(f"{subject}:{action}"):
        audit.record(action, subject=subject, actor=subject, **data)
    else:
        log.info(action, subject=subject, **data)


def _allowed(what: str) -> bool:
    key = f"nodes:refusals:{what}"
    try:
        count = int(redis.connection().incr(key))
        if count == 1:
            redis.connection().expire(key, 3600)
    except RedisError:
        return False
    return count <= MOST_PER_HOUR
