"""Ask a device over its link whether it is there, and wait a moment for the answer.

Whichever web process holds the link asks (nodes/link.py) and puts the answer into Redis, where the one who wants to know waits.
"""

from __future__ import annotations

import json
import uuid
from uuid import UUID

from django.conf import settings

from interchain_site.core import redis
from nodes.services.wake import CHANNEL

_KEPT_SECONDS = 30


def answers(device_id: UUID) -> bool | None:
    """Return whether the device answers within PING_ANSWER_SECONDS; None when no web process was there to ask it.

    Raises:
        RedisError: Redis is away, so nothing is known.
    """
    client = redis.connection()
    ping = uuid.uuid4().hex
    if not client.publish(CHANNEL, json.dumps({"device": str(device_id), "type": "ping", "id": ping})):
        return None
    return client.blpop([_key(ping)], timeout=settings.PING_ANSWER_SECONDS) is not None


def answered(ping: str) -> None:
    """Note that the answer to this ping came; called by the link."""
    client = redis.connection()
    with client.pipeline() as pipeline:
        pipeline.lpush(_key(ping), "1")
        pipeline.expire(_key(ping), _KEPT_SECONDS)
        pipeline.execute()


def _key(ping: str) -> str:
    return f"nodes:pong:{ping}"
