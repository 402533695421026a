"""Who is calling: from a short-lived JWT signed by a device to the device, for HTTP and for the link alike."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import UUID

from django.conf import settings
from redis import RedisError

from interchain_site.core import redis
from nodes.agent.protocol import CLOCK_SKEW_SECONDS, JWT_LIFETIME_SECONDS
from nodes.errors import BadSignature, Busy, DeviceRevoked, Replayed, Unauthenticated
from nodes.models import Device
from nodes.services.signatures import payload_of, unverified_claims
from nodes.states import DeviceState

MOST_TOKEN_CHARACTERS = 4096
_WINDOW_SECONDS = JWT_LIFETIME_SECONDS + 2 * CLOCK_SKEW_SECONDS


def authenticate(token: str) -> Device:
    """Return the device that made this JWT, and use the JWT up.

    Raises:
        Unauthenticated: no such device, wrong audience or times, or not signed by it.
        Replayed: it was used before.
        DeviceRevoked: the owner removed the device.
        Busy: Redis, which remembers used tokens, is away.
    """
    device = _device(token)
    try:
        claims = json.loads(payload_of(device, token))
    except (BadSignature, ValueError):
        raise Unauthenticated from None
    _check_claims(claims, time.time())
    if device.state == DeviceState.REVOKED:
        raise DeviceRevoked
    _use_up(device, claims["jti"])
    return device


def _device(token: str) -> Device:
    if len(token) > MOST_TOKEN_CHARACTERS:
        raise Unauthenticated
    try:
        device_id = UUID(str(unverified_claims(token).get("iss")))
    except ValueError:
        raise Unauthenticated from None
    device = Device.objects.exclude(public_key="").filter(pk=device_id).first()
    if device is None:
        raise Unauthenticated
    return device


def _check_claims(claims: dict[str, Any], now: float) -> None:
    issued, expires, token_id = claims.get("iat"), claims.get("exp"), claims.get("jti")
    if type(issued) is not int or type(expires) is not int:
        raise Unauthenticated("The token has no iat or exp in whole seconds.")
    if claims.get("aud") != settings.PORTAL_URL:
        raise Unauthenticated(f"The token is not meant for {settings.PORTAL_URL}.")
    if not isinstance(token_id, str) or not 8 <= len(token_id) <= 100:
        raise Unauthenticated("The token has no jti of 8 to 100 characters.")
    if expires - issued > JWT_LIFETIME_SECONDS:
        raise Unauthenticated(f"The token lives longer than {JWT_LIFETIME_SECONDS} s.")
    if not issued - CLOCK_SKEW_SECONDS <= now <= expires + CLOCK_SKEW_SECONDS:
        raise Unauthenticated("The token is too old or not valid yet. Check the device's clock.")


def _use_up(device: Device, token_id: str) -> None:
    try:
        fresh = redis.connection().set(f"nodes:jti:{device.pk}:{token_id}", "1", nx=True, ex=_WINDOW_SECONDS)
    except RedisError:
        raise Busy from None
    if not fresh:
        raise Replayed
