"""Reading a proof file strictly: one byte form per document (RFC 8785 for objects, lists, text, whole numbers, true, false, null)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from typing import Any

from interchain_verify.ed25519 import verify
from interchain_verify.keccak import keccak256


class Unreadable(Exception):
    """The file is not what it says it is; the message says where."""


def parse(data: bytes) -> dict[str, Any]:
    """Return the file's object.

    Raises:
        Unreadable: it is no JSON object, or not in its canonical form (then somebody edited it).
    """
    try:
        document = json.loads(data.decode("utf-8"))
        same = canonical(document) == data
    except (ValueError, TypeError, RecursionError) as error:
        raise Unreadable(f"This is no proof file: {error}.") from None
    if not isinstance(document, dict):
        raise Unreadable("This is no proof file: it holds no object.")
    if not same:
        raise Unreadable(
            "This file was changed after Interchain wrote it: it is not in canonical form. Download it again."
        )
    return document


def canonical(document: Any) -> bytes:
    """Return UTF-8 JSON with sorted keys and no spaces.

    Raises:
        TypeError: it holds a number that is not whole.
    """
    _refuse_floats(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def sha256_hex(document: Any) -> str:
    return hashlib.sha256(canonical(document)).hexdigest()


def member(document: dict[str, Any], name: str, kind: type) -> Any:
    """Return a member of the right type. `bool` is no whole number here.

    Raises:
        Unreadable.
    """
    found = document.get(name)
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise Unreadable(f"{name!r} is missing or not of the right kind.")
    return found


def amount(document: dict[str, Any], name: str) -> int:
    """Return a whole number of zero or more.

    Raises:
        Unreadable.
    """
    found: int = member(document, name, int)
    if found < 0:
        raise Unreadable(f"{name!r} is below zero.")
    return found


def objects(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a list of objects.

    Raises:
        Unreadable.
    """
    found = member(document, name, list)
    if not all(isinstance(one, dict) for one in found):
        raise Unreadable(f"{name!r} must hold objects only.")
    return list(found)


def hash_of(text: Any, where: str, prefix: str = "0x") -> bytes:
    """Return 32 bytes from lower-case hex.

    Raises:
        Unreadable.
    """
    if not isinstance(text, str) or not re.fullmatch(prefix + "[0-9a-f]{64}", text):
        raise Unreadable(f"{where} is not 32 bytes in hex.")
    return bytes.fromhex(text[len(prefix) :])


def address_of(text: Any, where: str) -> str:
    """Return an address in lower case, after its own checksum is checked (EIP-55).

    Raises:
        Unreadable.
    """
    if not isinstance(text, str) or not re.fullmatch("0x[0-9a-fA-F]{40}", text):
        raise Unreadable(f"{where} is not an Ethereum address.")
    digits = text[2:].lower()
    digest = keccak256(digits.encode()).hex()
    mixed = "".join(char.upper() if int(digest[place], 16) >= 8 else char for place, char in enumerate(digits))
    if text != "0x" + mixed:
        raise Unreadable(f"{where} has a typing error: its capital letters do not fit (EIP-55).")
    return text.lower()


def signed_payload(token: str, public_key: str) -> dict[str, Any] | None:
    """Return what a compact JWS (RFC 7515) says if `public_key` (JWK `x`, Ed25519) signed it, else None."""
    parts = token.split(".")
    key = _base64url(public_key)
    if len(parts) != 3 or key is None:
        return None
    header, payload, signature = (_base64url(part) for part in parts)
    if header is None or payload is None or signature is None:
        return None
    try:
        says, found = json.loads(header), json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(says, dict) or says.get("alg") not in ("Ed25519", "EdDSA") or "crit" in says:
        return None
    if not verify(key, (parts[0] + "." + parts[1]).encode("ascii"), signature):
        return None
    return found if isinstance(found, dict) else None


def _base64url(text: str) -> bytes | None:
    """Decode, refusing what does not come out the same again (padding, other alphabets, loose last bits)."""
    try:
        found = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        return None
    return found if base64.urlsafe_b64encode(found).rstrip(b"=") == text.encode("utf-8") else None


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError("only whole numbers are allowed")
    if isinstance(value, dict):
        for one in value.values():
            _refuse_floats(one)
    elif isinstance(value, list):
        for one in value:
            _refuse_floats(one)
