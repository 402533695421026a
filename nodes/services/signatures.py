"""Check what devices sign: compact JWS and JWT with the Ed25519 key a device enrolled with. The only importer of joserfc's
signature functions on the portal's side.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwa import EdDSAAlgorithm
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry

from nodes.errors import BadSignature


class _EdDSA(EdDSAAlgorithm):
    # RFC 9864 prefers the name Ed25519 because EdDSA leaves the curve open; here the key settles the curve.
    security_warning = ""


class _Registry(JWSRegistry):
    algorithms = {  # noqa: RUF012  (joserfc declares it so)
        "EdDSA": _EdDSA(),
        "Ed25519": JWSRegistry.algorithms["Ed25519"],
    }


_ALGORITHMS = ["EdDSA", "Ed25519"]
_REGISTRY = _Registry(algorithms=_ALGORITHMS)


def verified_payload(token: str | bytes, public_key: str) -> bytes:
    """Return what a compact JWS says, once its signature is proven to be of this key.

    Args:
        public_key: Ed25519 JWK `x`, base64url.

    Raises:
        BadSignature: it is no JWS, uses another algorithm, or somebody else signed it.
    """
    try:
        key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": public_key})
        found = jws.deserialize_compact(token, key, algorithms=_ALGORITHMS, registry=_REGISTRY)
    # What joserfc does not foresee (a header that is no object, bytes that are no text) is a bad signature all the same.
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        raise BadSignature from None
    return bytes(found.payload or b"")


def unverified_claims(token: str) -> dict[str, Any]:
    """Return a JWT's claims without proof; only good for finding out whose key to check it with. {} if it is no JWT."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError, binascii.Error, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
