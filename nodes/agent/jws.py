"""Compact JWS with Ed25519 (RFC 7515, 9864), and nothing else of JOSE: `tests/test_jws.py` holds it to joserfc, both ways.

A library of the whole of JOSE and the one it signs with took 11 MB of the 32 an idle agent may use (docs/adr/0311).
"""

from __future__ import annotations

import base64
import binascii
import json

from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey

from nodes.agent.protocol import SIGNATURE_ALGORITHM


class BadSignature(ValueError):
    """It is no such JWS, or this key did not sign it."""


def sign(payload: bytes, key: SigningKey) -> str:
    """Return a compact JWS over the payload."""
    header = json.dumps({"alg": SIGNATURE_ALGORITHM}, separators=(",", ":")).encode()
    signed = f"{encode(header)}.{encode(payload)}"
    return f"{signed}.{encode(key.sign(signed.encode()).signature)}"


def verified(compact: str, x: str) -> bytes:
    """Return what a compact JWS says, proven to be of this Ed25519 key (JWK `x`).

    Raises:
        BadSignature
    """
    try:
        signed, signature = compact.rsplit(".", 1)
        header, payload = signed.split(".")
        said = json.loads(decode(header))
        # `crit` and `b64` would change what the rest means (RFC 7515 §4.1.11, RFC 7797): neither is ours.
        if not isinstance(said, dict) or said.get("alg") != SIGNATURE_ALGORITHM or {"crit", "b64"} & said.keys():
            raise BadSignature("Not signed with " + SIGNATURE_ALGORITHM)
        VerifyKey(decode(x)).verify(signed.encode("ascii"), decode(signature))
        return decode(payload)
    except (CryptoError, ValueError, TypeError, RecursionError) as error:
        raise BadSignature(str(error) or "Not signed by this key") from error


def encode(data: bytes) -> str:
    """Return base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Return the bytes of base64url without padding.

    Raises:
        ValueError: it is anything else, or not the one spelling of its bytes.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    if encode(data) != text:
        raise ValueError("not base64url")
    return data
