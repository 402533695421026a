"""Who is there. Redis holds when each device was last heard (any request or link message); a periodic sweep draws the
conclusions in the database.

Silence only counts while the portal was listening: `SINCE` starts when a web process is up and Redis remembers, and
starts over after either was lost, so that a restart of ours never declares the whole fleet offline.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from redis import RedisError

from interchain_site.core import audit, redis
from nodes.agent.protocol import Action, Goodbye, Report
from nodes.errors import Malformed, MovedMeanwhile
from nodes.models import Device, Lease
from nodes.services import leases, texts
from nodes.states import ALIVE, DeviceState, LeaseState, transition_device

SEEN_KEY = "nodes:seen"
LOAD_KEY = "nodes:load"
LISTENING_KEY = "nodes:listening"
SINCE_KEY = "nodes:listening-since"
LISTENING_SECONDS = 15
SAVE_SECONDS = 60
ROUNDING_SECONDS = 0.001
"""Redis keeps more digits of a moment than a row does."""
AGENT_ONLY = (Goodbye.STOP, Goodbye.UPDATE)
HERE_OR_NOT = (DeviceState.ONLINE, DeviceState.OFFLINE, DeviceState.PAUSED, DeviceState.DRAINING)

log = structlog.get_logger()


def heard(device_ids: Iterable[UUID], *, again: bool = False) -> None:
    """Note that these devices were heard just now. Best effort: Redis may be away.

    Args:
        again: only those that were heard before and did not say goodbye since.
    """
    now = time.time()
    scores = {str(device_id): now for device_id in device_ids}
    try:
        if scores:
            redis.connection().zadd(SEEN_KEY, scores, xx=again)
    except RedisError as error:
        log.warning("liveness_not_noted", error=str(error))


def note_load(device: Device, report: Report) -> None:
    """Keep what the agent says of itself: its load in Redis, its version in the database when it changed.

    Raises:
        Malformed: more figures than a load has.
    """
    if len(report.load) > 16 or any(len(name) > 40 or abs(value) >= 2**63 for name, value in report.load.items()):
        raise Malformed("Report.load: too many or too large figures.")
    version = texts.clean(report.agent_version, 40)
    if version != device.agent_version:
        Device.objects.filter(pk=device.pk).update(agent_version=version)
    try:
        redis.connection().hset(LOAD_KEY, str(device.pk), json.dumps(report.load))
    except RedisError as error:
        log.warning("load_not_noted", error=str(error))


def load_of(device: Device) -> dict[str, int]:
    """Return the load the device last reported; empty when unknown."""
    try:
        return dict(json.loads(redis.connection().hget(LOAD_KEY, str(device.pk)) or "{}"))
    except RedisError:
        return {}


def listening() -> None:
    """Note that this web process takes requests; called every few seconds by the link (nodes/link.py)."""
    redis.connection().set(LISTENING_KEY, "1", ex=LISTENING_SECONDS)


def last_heard(device: Device) -> datetime | None:
    """Return when the device was last heard, from Redis or else from the database."""
    return last_heard_of([device])[device.pk]


def last_heard_of(devices: Collection[Device]) -> dict[UUID, datetime | None]:
    """Return when each was last heard, from Redis or else from the database."""
    scores: list[Any] = [None] * len(devices)
    if devices:
        with contextlib.suppress(RedisError):
            scores = redis.connection().zmscore(SEEN_KEY, [str(device.pk) for device in devices])
    return {
        device.pk: device.last_seen_at if score is None else datetime.fromtimestamp(float(score), tz=UTC)
        for device, score in zip(devices, scores, strict=True)
    }


def mark_online(device: Device) -> None:
    """Turn an offline device that was just heard online; others stay as they are, but their goodbye is over."""
    if device.state == DeviceState.OFFLINE:
        with transaction.atomic():
            try:
                transition_device(device, DeviceState.ONLINE, last_seen_at=timezone.now(), goodbye="")
            except MovedMeanwhile:
                device.refresh_from_db()
                return
            audit.record("device_online", subject=f"device:{device.pk}")
    elif device.goodbye:
        Device.objects.filter(pk=device.pk).update(goodbye="")
        device.goodbye = ""


def goodbye(device_id: UUID, reason: Goodbye) -> None:
    """Take a device's word that it leaves: offline at once, not after a time of silence.

    What runs on it is lost with it, unless only the agent ends: then apps go on, and are lost if it stays away for
    LINK_TIMEOUT_SECONDS.
    """
    try:
        redis.connection().zrem(SEEN_KEY, str(device_id))
    except RedisError as error:
        log.warning("goodbye_not_noted", error=str(error))
    with transaction.atomic():
        device = Device.objects.select_for_update().get(pk=device_id)
        if device.state not in HERE_OR_NOT:
            return
        changes = {"goodbye": reason.value, "last_seen_at": timezone.now()}
        if device.state == DeviceState.ONLINE:
            transition_device(device, DeviceState.OFFLINE, **changes)
        else:
            Device.objects.filter(pk=device_id).update(**changes)
        audit.record("device_goodbye", subject=f"device:{device_id}", actor=f"device:{device_id}", reason=reason.value)
    if reason not in AGENT_ONLY:
        lose(device)


def sweep() -> None:
    """0. Settle what removed devices left. 1. Save when devices were heard. 2. Online: devices heard since they went offline. 3. If the portal was
    listening all the while, offline: those silent for LINK_TIMEOUT_SECONDS. 4. Their leases are lost, until they come back."""
    _settle_removed()
    now = time.time()
    client = redis.connection()
    silent_before = now - settings.LINK_TIMEOUT_SECONDS
    found: Any = client.zrangebyscore(SEEN_KEY, silent_before, "+inf", withscores=True)
    fresh = {UUID(member): float(at) for member, at in found}
    _save_seen(fresh)
    for device in Device.objects.filter(state=DeviceState.OFFLINE, pk__in=fresh):
        # One that was asked and did not answer was heard a moment before, which brings nobody back.
        if device.last_seen_at is None or fresh[device.pk] > device.last_seen_at.timestamp() + ROUNDING_SECONDS:
            mark_online(device)
    if not _listened_since(silent_before, now):
        return
    present = set(fresh)
    known = Device.objects.filter(state__in=HERE_OR_NOT)
    recent = timezone.now() - timedelta(seconds=settings.LINK_TIMEOUT_SECONDS)
    # A device that enrolled a moment ago has not been heard in Redis yet; one whose agent ends alone has its time to return.
    returning = Q(goodbye__in=AGENT_ONLY, last_seen_at__gt=recent)
    for device in known.exclude(enrolled_at__gt=recent).exclude(returning).iterator():
        if device.pk not in present:
            lose(device)


def _settle_removed() -> None:
    """Finish what removing a device may have left unfinished."""
    unsettled = Q(state__in=[*ALIVE, LeaseState.LOST, LeaseState.DRAINING]) | Q(
        state=LeaseState.STOPPED, action=Action.WIPE.value
    )
    found = Lease.objects.filter(unsettled, device__state=DeviceState.REVOKED)
    for lease_id in found.values_list("pk", flat=True):
        leases.settle_removed(lease_id)


def was_listening() -> bool:
    """Return whether the portal listened all through the last LINK_TIMEOUT_SECONDS, so that silence in it means something.

    Raises:
        RedisError: nobody knows.
    """
    now = time.time()
    return _listened_since(now - settings.LINK_TIMEOUT_SECONDS, now)


def _listened_since(before: float, now: float) -> bool:
    client = redis.connection()
    if not client.exists(LISTENING_KEY):
        client.delete(SINCE_KEY)
        return False
    client.set(SINCE_KEY, str(now), nx=True)
    return float(client.get(SINCE_KEY) or now) <= before


def lose(device: Device) -> None:
    """Take a silent device for gone: offline, and what runs on it lost until it comes back. Idempotent."""
    heard_at = None
    if device.state == DeviceState.ONLINE:
        heard_at = last_heard(device)
        try:
            with transaction.atomic():
                transition_device(device, DeviceState.OFFLINE, last_seen_at=heard_at)
                audit.record("device_offline", subject=f"device:{device.pk}")
        except MovedMeanwhile:
            return
    held = list(Lease.objects.filter(device=device, state__in=ALIVE).values_list("pk", flat=True))
    if held:
        leases.mark_all_lost(held, heard_at=heard_at or last_heard(device))


def _save_seen(device_ids: Collection[UUID]) -> None:
    """What an offline device has saved is when it was heard last before it went (`lose`)."""
    now = timezone.now()
    here = Device.objects.filter(pk__in=device_ids).exclude(state=DeviceState.OFFLINE)
    here.exclude(last_seen_at__gt=now - timedelta(seconds=SAVE_SECONDS)).update(last_seen_at=now)
