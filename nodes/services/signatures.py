"""Check what devices sign: compact JWS (RFC 7515) with the Ed25519 key a device enrolled with (RFC 8037, RFC 9864).

Every request of every device passes here, so the one algorithm and the one form that devices use are checked directly with libsodium
(PyNaCl), which takes a third of the time of a general JOSE library; nodes/tests/test_signatures.py holds it to joserfc. Where the two
differ this is the stricter: one spelling of base64, no member twice, and no header but those that change nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.utils import timezone
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from nodes.agent.protocol import MAX_BODY_BYTES, SIGNATURE_ALGORITHM
from nodes.errors import BadSignature
from nodes.models import Device

SIGNATURE_BYTES = 64
_HARMLESS = frozenset({"alg", "typ", "cty", "kid"})
"""Header members that are taken: `alg`, which must be ours, and three that only describe. A key, an address of one, `crit` and
`b64` would change what is checked, and no device needs them."""


@dataclass(frozen=True)
class Signed:
    """A compact JWS that has the right form; what it says is not proven yet."""

    payload: bytes
    covered: bytes
    signature: bytes

    def check(self, public_key: str) -> None:
        """Prove that this key (Ed25519 JWK `x`, base64url) signed it.

        Raises:
            BadSignature: it did not.
        """
        try:
            VerifyKey(_decoded(public_key.encode("ascii"))).verify(self.covered, self.signature)
        except (CryptoError, ValueError, TypeError):
            raise BadSignature from None

    def check_of(self, device: Device) -> None:
        """Prove that this device signed it, with its key or with the one before while that is still good. Raises as `check`."""
        try:
            self.check(device.public_key)
        except BadSignature:
            until = device.previous_key_until
            if until is None or until <= timezone.now():
                raise
            self.check(device.previous_key)


def read(token: str | bytes) -> Signed:
    """Take a compact JWS apart.

    Raises:
        BadSignature: it is none, uses another algorithm, or has a header that could change what is checked.
    """
    if len(token) > MAX_BODY_BYTES:
        raise BadSignature
    try:
        data = token.encode("ascii") if isinstance(token, str) else token
        header, payload, signature = data.split(b".")
        _check_header(header)
        signed = Signed(_decoded(payload), data[: -len(signature) - 1], _decoded(signature))
    except (ValueError, RecursionError):
        raise BadSignature from None
    if len(signed.signature) != SIGNATURE_BYTES:
        raise BadSignature
    return signed


def verified_payload(token: str | bytes, public_key: str) -> bytes:
    """Return what a compact JWS says, once its signature is proven to be of this key.

    Args:
        public_key: Ed25519 JWK `x`, base64url.

    Raises:
        BadSignature: it is no JWS, uses another algorithm, or somebody else signed it.
    """
    signed = read(token)
    signed.check(public_key)
    return signed.payload


def payload_of(device: Device, token: str | bytes) -> bytes:
    """Return what a compact JWS of this device says: signed with its key, or with the one before while that is still good.

    Raises:
        BadSignature: as `verified_payload`.
    """
    signed = read(token)
    signed.check_of(device)
    return signed.payload


def json_object(text: bytes) -> dict[str, Any]:
    """Return the JSON object that was signed. A member that is there twice would mean one thing to us and another to whoever
    checks the evidence.

    Raises:
        ValueError: it is no JSON object, or has a member twice.
    """
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


@lru_cache(maxsize=64)
def _check_header(header: bytes) -> None:
    says = json_object(_decoded(header))
    if says.get("alg") != SIGNATURE_ALGORITHM or not _HARMLESS.issuperset(says):
        raise ValueError("not a header of ours")


def _decoded(text: bytes) -> bytes:
    """Return base64url decoded; raises ValueError for any but its one spelling (no padding, no stray characters or bits)."""
    try:
        found = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if base64.urlsafe_b64encode(found).rstrip(b"=") != text:
        raise ValueError("not base64url as it is spelt")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found
