"""Two agents with one key: somebody copied a device's folder, or runs it twice. The newer link takes the older's place."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID

import structlog
from django.db import close_old_connections, transaction
from django.utils import timezone
from redis import RedisError

from interchain_site.core import audit, redis
from nodes.models import Device
from nodes.services.wake import CHANNEL

WARNED_FOR = timedelta(days=1)  # how long the device's page says so; the older comes back every few minutes
ORDER_KEY = "nodes:link-order"

log = structlog.get_logger()


def order() -> int:
    """Return the next place among all links ever opened; 0 while Redis is away, so that nothing is replaced."""
    try:
        return int(redis.connection().incr(ORDER_KEY))
    except RedisError:
        return 0


def opened(device_id: UUID, agent: str, place: int) -> None:
    """Tell every web process that this agent opened a link: those of the device's other agents give way (nodes/hub.py)."""
    message = {"device": str(device_id), "type": "newer", "agent": agent, "order": place}
    try:
        redis.connection().publish(CHANNEL, json.dumps(message))
    except RedisError as error:
        log.warning("newer_link_not_told", device=str(device_id), error=str(error))


def seen(device_id: UUID) -> None:
    """Note that two agents with this device's key were here at once; in a thread, because the database is not asynchronous."""
    close_old_connections()
    try:
        with transaction.atomic():
            Device.objects.filter(pk=device_id).update(twin_seen_at=timezone.now())
            audit.record("device_twin_seen", subject=f"device:{device_id}")
    finally:
        close_old_connections()


def is_warned(device: Device) -> bool:
    """Return whether its owner should still be told."""
    return device.twin_seen_at is not None and device.twin_seen_at > timezone.now() - WARNED_FOR
