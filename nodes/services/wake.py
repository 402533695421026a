"""Tell a device to look again. Only a hint: a device that misses it looks by itself within its poll interval."""

from __future__ import annotations

import json
from collections.abc import Collection
from uuid import UUID

import structlog
from django.db import transaction
from redis import RedisError

from interchain_site.core import redis

CHANNEL = "nodes:link"
"""Every web process listens here once and passes the message to the device's WebSocket, if it holds it."""

log = structlog.get_logger()


def wake(device_id: UUID) -> None:
    """Wake the device when the current transaction commits."""
    wake_many([device_id])


def wake_many(device_ids: Collection[UUID]) -> None:
    """Wake the devices when the current transaction commits."""
    transaction.on_commit(lambda: _publish(device_ids, "look"))


def hang_up(device_id: UUID) -> None:
    """End the device's link when the current transaction commits: its key is no longer good."""
    transaction.on_commit(lambda: _publish([device_id], "close"))


def _publish(device_ids: Collection[UUID], kind: str) -> None:
    try:
        with redis.connection().pipeline(transaction=False) as pipeline:
            for device_id in device_ids:
                pipeline.publish(CHANNEL, json.dumps({"device": str(device_id), "type": kind}))
            pipeline.execute()
    except RedisError as error:
        log.warning("wake_not_sent", devices=len(device_ids), error=str(error))
