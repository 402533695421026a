"""Who is calling: from a short-lived JWT signed by a device to the device, for HTTP and for the link alike."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from django.conf import settings
from redis import RedisError

from interchain_site.core import redis
from nodes.agent.protocol import CLOCK_SKEW_SECONDS, JWT_LIFETIME_SECONDS
from nodes.errors import BadSignature, Busy, DeviceRevoked, Replayed, Unauthenticated
from nodes.models import Device
from nodes.prepared import Given, Prepared
from nodes.services import liveness, signatures
from nodes.states import DeviceState

MOST_TOKEN_CHARACTERS = 4096
_TAKE = """
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[3])
return 1
"""
_BY_ID = Prepared(lambda: Device.objects.filter(pk=Given(0, Device._meta.pk)).order_by())
_WINDOW_SECONDS = JWT_LIFETIME_SECONDS + 2 * CLOCK_SKEW_SECONDS


def authenticate(token: str) -> Device:
    """Return the device that made this JWT, use the JWT up, and note that the device was heard.

    One query and one round trip to Redis.

    Raises:
        Unauthenticated: no such device, wrong audience or times, or not signed by it.
        Replayed: it was used before.
        DeviceRevoked: the owner removed the device.
        Busy: Redis, which remembers used tokens, is away.
    """
    if len(token) > MOST_TOKEN_CHARACTERS:
        raise Unauthenticated
    try:
        signed = signatures.read(token)
        claims = signatures.json_object(signed.payload)
        device = _device(claims)
        signed.check_of(device)
    except (BadSignature, ValueError):
        raise Unauthenticated from None
    _check_claims(claims, time.time())
    if device.state == DeviceState.REVOKED:
        raise DeviceRevoked
    _use_up(device, claims["jti"])
    return device


def _device(claims: dict[str, Any]) -> Device:
    """Return the device that a token not proven yet says it is from: whose key to prove it with."""
    device = _BY_ID.first(UUID(str(claims.get("iss"))))
    if device is None or not device.public_key:
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
        fresh = redis.script(_TAKE)(
            keys=[f"nodes:jti:{device.pk}:{token_id}", liveness.SEEN_KEY],
            args=[_WINDOW_SECONDS, time.time(), str(device.pk)],
        )
    except RedisError:
        raise Busy from None
    if not fresh:
        raise Replayed
