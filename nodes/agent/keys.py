"""The device's Ed25519 key: made here, never leaves here. Signs short JWTs for requests and JWS for evidence (RFC 7515, 8037)."""

from __future__ import annotations

import base64
import json
import secrets
import uuid
from pathlib import Path

from nacl.signing import SigningKey

from nodes.agent import files, jws
from nodes.agent.errors import SetupError
from nodes.agent.protocol import JWT_LIFETIME_SECONDS

# An Ed25519 private key in PKCS #8 is these bytes, then its 32 (RFC 8410 §7); around it the usual PEM.
_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")
_BEGIN, _END = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"


class DeviceKey:
    """Signs as this device."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key

    def adopt(self, other: DeviceKey) -> None:
        """Sign as the other from now on: whoever holds this object does so too."""
        self._key = other._key

    @property
    def public_x(self) -> str:
        """The public key as the JWK member `x` (base64url)."""
        return jws.encode(bytes(self._key.verify_key))

    def openssh(self) -> bytes:
        """Return the private key as OpenSSH's client reads it (its PROTOCOL.key, without a password)."""

        def text(data: bytes) -> bytes:
            return len(data).to_bytes(4, "big") + data

        kind, public = b"ssh-ed25519", bytes(self._key.verify_key)
        twice = secrets.token_bytes(4) * 2
        private = twice + text(kind) + text(public) + text(bytes(self._key) + public) + text(b"interchain")
        private += bytes(range(1, 1 + -len(private) % 8))
        head = b"openssh-key-v1\0" + text(b"none") * 2 + text(b"") + (1).to_bytes(4, "big")
        body = base64.encodebytes(head + text(text(kind) + text(public)) + text(private)).decode()
        return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}-----END OPENSSH PRIVATE KEY-----\n".encode()

    def token(self, *, device_id: str, audience: str, now: float, **more: str) -> str:
        """Return a JWT for one request.

        Args:
            now: seconds since 1970, by the portal's clock as far as the agent knows it.
            more: further claims; the link's (protocol.py).
        """
        issued = int(now)
        claims = {
            "iss": device_id,
            "aud": audience,
            "iat": issued,
            "exp": issued + JWT_LIFETIME_SECONDS,
            "jti": str(uuid.uuid4()),
            **more,
        }
        return self.sign(json.dumps(claims, separators=(",", ":")).encode())

    def sign(self, payload: bytes) -> str:
        """Return a compact JWS over the payload, kept by the portal as evidence."""
        return jws.sign(payload, self._key)

    def to_pem(self) -> str:
        """Return the private key as PKCS #8 in PEM."""
        text = base64.b64encode(_PKCS8 + bytes(self._key)).decode()
        return f"{_BEGIN}\n{text}\n{_END}\n"


def fresh() -> DeviceKey:
    """Make a key that is nowhere but in memory."""
    return DeviceKey(SigningKey.generate())


def create(path: Path) -> DeviceKey:
    """Make a key if the file does not exist, and return it."""
    if not path.exists():
        files.write_atomic(path, fresh().to_pem().encode())
    return load(path)


def load(path: Path) -> DeviceKey:
    """Return the key in the file.

    Raises:
        SetupError: it is missing, damaged, or others may read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise SetupError(f"Others may read {path}. Type: chmod 600 {path}")
        return from_pem(path.read_text())
    except FileNotFoundError:
        raise SetupError(f"{path} is missing. Enrol this device again with the command from its page.") from None
    except ValueError as error:
        raise SetupError(f"{path} is damaged. Enrol this device again with the command from its page.") from error


def from_pem(text: str) -> DeviceKey:
    """Return the key in a PEM text.

    Raises:
        ValueError: it is not an Ed25519 private key.
    """
    lines = text.split()
    if " ".join([*lines[:3], *lines[-3:]]) != f"{_BEGIN} {_END}":
        raise ValueError("not a private key in PEM")
    data = base64.b64decode("".join(lines[3:-3]), validate=True)
    if data[: len(_PKCS8)] != _PKCS8 or len(data) != len(_PKCS8) + 32:
        raise ValueError("not an Ed25519 key")
    return DeviceKey(SigningKey(data[len(_PKCS8) :]))
