"""Merkle trees as OpenZeppelin's StandardMerkleTree builds them, so that `MerkleProof.sol` and its tools check ours.

A leaf is `keccak256(keccak256(abi.encode(values)))`; leaves are sorted; a pair is hashed smaller first. Source:
https://github.com/OpenZeppelin/merkle-tree#standard-merkle-trees
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from sha3 import keccak_256  # in C: five times eth-utils' speed (bench/settle)

from billing.chain.types import ZERO_HASH

ADDRESS_BYTES = 20
WORD_BYTES = 32


class MerkleTree:
    """The tree over some leaves, in whatever order they are given. An empty tree's root is all zeros.

    `_nodes` is the tree as StandardMerkleTree lays it out: node i's children are 2i+1 and 2i+2, the root is node 0.
    """

    def __init__(self, leaves: Iterable[bytes]) -> None:
        self._ordered = sorted(leaves)
        count = len(self._ordered)
        nodes = [b""] * max(count - 1, 0) + self._ordered[::-1]
        for index in range(count - 2, -1, -1):  # `_pair` written out: this line is the whole cost of an epoch
            left, right = nodes[2 * index + 1], nodes[2 * index + 2]
            nodes[index] = keccak_256(left + right if left < right else right + left).digest()
        self._nodes = nodes

    @property
    def root(self) -> str:
        return "0x" + self._nodes[0].hex() if self._nodes else ZERO_HASH

    def proof(self, leaf: bytes) -> list[bytes]:
        """Return the siblings from the leaf up to the root.

        Raises:
            KeyError: the tree has no such leaf.
        """
        place, count = bisect_left(self._ordered, leaf), len(self._ordered)
        if place == count or self._ordered[place] != leaf:
            raise KeyError(leaf)
        nodes, number = self._nodes, 2 * count - 1 - place  # numbered from 1: parent n >> 1, sibling n ^ 1
        return [nodes[(number >> level ^ 1) - 1] for level in range(number.bit_length() - 1)]


def payout_leaf(account: str, cumulative: int) -> bytes:
    """Return the leaf of `(address account, uint256 cumulative)`; base units."""
    address = bytes.fromhex(account.removeprefix("0x"))
    if len(address) != ADDRESS_BYTES:
        raise ValueError(f"{account} is not an address.")
    return _leaf(address.rjust(WORD_BYTES, b"\0") + cumulative.to_bytes(WORD_BYTES, "big"))


def statement_leaf(sha256: str) -> bytes:
    """Return the leaf of `(bytes32 sha256)`: the SHA-256 of a usage statement's canonical JSON, in hex."""
    digest = bytes.fromhex(sha256)
    if len(digest) != WORD_BYTES:
        raise ValueError(f"{sha256} is not a SHA-256.")
    leaf: bytes = keccak_256(keccak_256(digest).digest()).digest()  # `_leaf` written out, for epochs of many statements
    return leaf


def verify(*, proof: Sequence[bytes], root: str, leaf: bytes) -> bool:
    """Return whether the proof leads from the leaf to the root, exactly as `MerkleProof.verify` does."""
    node = leaf
    for sibling in proof:
        node = _pair(node, sibling)
    return "0x" + node.hex() == root


def _leaf(encoded: bytes) -> bytes:
    return bytes(keccak_256(keccak_256(encoded).digest()).digest())


def _pair(left: bytes, right: bytes) -> bytes:
    return bytes(keccak_256(left + right if left < right else right + left).digest())
