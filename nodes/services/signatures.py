"""Check what devices sign: compact JWS and JWT with the Ed25519 key a device enrolled with. The only importer of joserfc's
signature functions on the portal's side.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from django.utils import timezone
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from nodes.agent.protocol import SIGNATURE_ALGORITHM
from nodes.errors import BadSignature
from nodes.models import Device


def verified_payload(token: str | bytes, public_key: str) -> bytes:
    """Return what a compact JWS says, once its signature is proven to be of this key.

    Args:
        public_key: Ed25519 JWK `x`, base64url.

    Raises:
        BadSignature: it is no JWS, uses another algorithm, or somebody else signed it.
    """
    try:
        key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": public_key})
        found = jws.deserialize_compact(token, key, algorithms=[SIGNATURE_ALGORITHM])
    # What joserfc does not foresee (a header that is no object, bytes that are no text) is a bad signature all the same.
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        raise BadSignature from None
    return bytes(found.payload or b"")


def payload_of(device: Device, token: str | bytes) -> bytes:
    """Return what a compact JWS of this device says: signed with its key, or with the one before while that is still good.

    Raises:
        BadSignature: as `verified_payload`.
    """
    try:
        return verified_payload(token, device.public_key)
    except BadSignature:
        until = device.previous_key_until
        if until is None or until <= timezone.now():
            raise
    return verified_payload(token, device.previous_key)


def unverified_claims(token: str) -> dict[str, Any]:
    """Return a JWT's claims without proof; only good for finding out whose key to check it with. {} if it is no JWT."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError, binascii.Error, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
