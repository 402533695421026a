"""Somebody could not reach an app's device: ask the device at once, and only its own silence counts.

A report moves nothing by itself, so who reports falsely costs one ping, at most one a second for each device.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.utils import timezone
from redis import RedisError

from interchain_site.core import redis
from nodes.models import Device
from nodes.services import liveness, pings, succession

ASKED_AGAIN_AFTER_SECONDS = 1
BEAT = timedelta(seconds=1)
SOURCES = ("gateway", "client", "link")

log = structlog.get_logger()


def suspect_endpoint(*, workload_id: UUID, endpoint: str, source: str) -> bool:
    """Ask the device that serves a workload at `host:port` whether it is there; returns whether it was found gone."""
    for lease in succession.serving(workload_id):
        if endpoint in (succession.endpoint_of(lease), succession.client_endpoint_of(lease)):
            log.info("endpoint_suspected", workload=str(workload_id), endpoint=endpoint, source=source)
            return suspect(lease.device)
    return False


def suspect_link(device_id: UUID) -> bool:
    """A device's link broke off without a goodbye and did not come back. One that was heard since is left alone."""
    device = Device.objects.get(pk=device_id)
    heard_at = liveness.last_heard(device)
    quiet = timedelta(seconds=settings.LINK_RETURN_SECONDS)
    if device.goodbye or (heard_at is not None and timezone.now() - heard_at < quiet - BEAT):
        return False
    log.info("link_suspected", device=str(device_id))
    return suspect(device)


def suspect(device: Device) -> bool:
    """Ask a device whether it is there. One that stays silent is lost with all that runs on it; returns whether it was.

    Nothing is concluded while the portal itself was not listening: then silence says nothing of the device.
    """
    try:
        if not redis.connection().set(f"nodes:asked:{device.pk}", "1", nx=True, ex=ASKED_AGAIN_AFTER_SECONDS):
            return False
        answer = pings.answers(device.pk)
        if answer:
            liveness.heard([device.pk])
        if answer is not False or not liveness.was_listening():
            return False
    except RedisError as error:
        log.warning("suspicion_without_redis", device=str(device.pk), error=str(error))
        return False
    liveness.lose(device)
    return True
