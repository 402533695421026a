"""Keccak-256. Trees hash hundreds of thousands of pairs, so the C implementation of `safe-pysha3`: five times eth-utils' speed."""

from __future__ import annotations

from sha3 import keccak_256


def keccak(data: bytes) -> bytes:
    """Return the 32-byte hash."""
    return bytes(keccak_256(data).digest())
