"""One byte form for a JSON document, so that hashes and signatures agree everywhere (RFC 8785 for our value types)."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(document: Any) -> bytes:
    """Return UTF-8 JSON with sorted keys and no spaces.

    Only objects, arrays, text, whole numbers, booleans and null may occur; a float raises `TypeError`, because
    two programs may print the same float differently.
    """
    _refuse_floats(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError("A canonical document holds no floats; write whole units or text.")
    if isinstance(value, dict):
        for item in value.values():
            _refuse_floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_floats(item)
