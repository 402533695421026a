"""The device's Ed25519 key: made here, never leaves here. Signs short JWTs for requests and JWS for evidence (RFC 7515, 8037)."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jws
from joserfc.jwk import OKPKey

from nodes.agent import files
from nodes.agent.errors import SetupError
from nodes.agent.protocol import JWT_LIFETIME_SECONDS, SIGNATURE_ALGORITHM


class DeviceKey:
    """Signs as this device."""

    def __init__(self, key: OKPKey) -> None:
        self._key = key

    def adopt(self, other: DeviceKey) -> None:
        """Sign as the other from now on: whoever holds this object does so too."""
        self._key = other._key

    @property
    def public_x(self) -> str:
        """The public key as the JWK member `x` (base64url)."""
        return str(self._key.as_dict(private=False)["x"])

    def token(self, *, device_id: str, audience: str, now: float) -> str:
        """Return a JWT for one request.

        Args:
            now: seconds since 1970, by the portal's clock as far as the agent knows it.
        """
        issued = int(now)
        claims = {
            "iss": device_id,
            "aud": audience,
            "iat": issued,
            "exp": issued + JWT_LIFETIME_SECONDS,
            "jti": str(uuid.uuid4()),
        }
        return self.sign(json.dumps(claims, separators=(",", ":")).encode())

    def sign(self, payload: bytes) -> str:
        """Return a compact JWS over the payload, kept by the portal as evidence."""
        header = {"alg": SIGNATURE_ALGORITHM}
        return str(jws.serialize_compact(header, payload, self._key, algorithms=[SIGNATURE_ALGORITHM]))


def create(path: Path) -> DeviceKey:
    """Make a key if the file does not exist, and return it."""
    if not path.exists():
        private = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        files.write_atomic(path, private)
    return load(path)


def load(path: Path) -> DeviceKey:
    """Return the key in the file.

    Raises:
        SetupError: it is missing, damaged, or others may read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise SetupError(f"Others may read {path}. Type: chmod 600 {path}")
        return DeviceKey(OKPKey.import_key(path.read_bytes()))
    except FileNotFoundError:
        raise SetupError(f"{path} is missing. Enrol this device again with the command from its page.") from None
    except ValueError as error:
        raise SetupError(f"{path} is damaged. Enrol this device again with the command from its page.") from error
