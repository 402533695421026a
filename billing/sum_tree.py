"""A Merkle tree whose nodes carry sums: its root fixes what everybody is owed, and each person can see their part in it.

Against the known flaws of sum trees (docs/adr/0401): a node's hash covers the units and the hash of **both** children, so no sum
below can be exchanged; units are written as unsigned 128-bit numbers, so none is negative and none can overflow; a leaf's hash covers
a salted document that names its person, so two people with equal balances cannot be shown the same leaf.

`verify/interchain_verify/reserves.py` is the other reader of this form; it shares no code with this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

UNIT_BYTES = 16
NODE_BYTES = UNIT_BYTES + 32
LEAF, INNER = b"\x00", b"\x01"


@dataclass(frozen=True, slots=True)
class Node:
    units: int
    hash: bytes


def leaf(*, units: int, salt: bytes, document: bytes) -> Node:
    """Return a leaf.

    Raises:
        OverflowError: `units` is below zero or beyond 128 bits.
    """
    salted = sha256(salt + document).digest()
    return Node(units, sha256(LEAF + units.to_bytes(UNIT_BYTES, "big") + salted).digest())


class SumTree:
    """The tree over leaves in the order given, whose number is a power of two. Levels are flat bytes: 48 per node."""

    def __init__(self, leaves: Sequence[Node]) -> None:
        count = len(leaves)
        if count < 1 or count & (count - 1):
            raise ValueError("The number of leaves is a power of two; pad with leaves of zero units.")
        level = bytearray()
        for node in leaves:
            level += node.units.to_bytes(UNIT_BYTES, "big") + node.hash
        self._levels = [level]
        while len(level) > NODE_BYTES:
            level = _above(level)
            self._levels.append(level)

    @property
    def root(self) -> Node:
        return _node(self._levels[-1], 0)

    def path(self, position: int) -> list[Node]:
        """Return the siblings from a leaf up to below the root. Bit n of the position says on which side the n-th stands."""
        found = []
        for level in self._levels[:-1]:
            found.append(_node(level, position ^ 1))
            position >>= 1
        return found


def _above(level: bytearray) -> bytearray:
    above = bytearray()
    for start in range(0, len(level), 2 * NODE_BYTES):
        pair = level[start : start + 2 * NODE_BYTES]
        units = int.from_bytes(pair[:UNIT_BYTES], "big") + int.from_bytes(
            pair[NODE_BYTES : NODE_BYTES + UNIT_BYTES], "big"
        )
        above += units.to_bytes(UNIT_BYTES, "big") + sha256(INNER + pair).digest()
    return above


def _node(level: bytearray, position: int) -> Node:
    found = bytes(level[position * NODE_BYTES : (position + 1) * NODE_BYTES])
    return Node(int.from_bytes(found[:UNIT_BYTES], "big"), found[UNIT_BYTES:])
