"""What the chain's modules say to each other and to services: plain values, no web3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

ZERO_ADDRESS = "0x" + "0" * 40
ZERO_HASH = "0x" + "0" * 64
WEI_PER_ETHER = 10**18
ETHER_DECIMALS = 5


def ether_text(wei: int) -> str:
    """Return an amount of ether for people, rounded up in the fifth decimal: `0.00312 ETH`."""
    parts = -(-wei // 10 ** (18 - ETHER_DECIMALS))
    return f"{parts // 10**ETHER_DECIMALS}.{parts % 10**ETHER_DECIMALS:05} ETH"


@dataclass(frozen=True)
class Call:
    """What a transaction does. `to` is None for the creation of a contract."""

    to: str | None
    data: bytes


@dataclass(frozen=True)
class Fees:
    """Wei per unit of gas (EIP-1559)."""

    max_fee: int
    priority_fee: int


@dataclass(frozen=True)
class Block:
    """A block's header. `timestamp` is seconds since 1970."""

    number: int
    hash: str
    timestamp: int
    parent_hash: str = ""


@dataclass(frozen=True)
class Log:
    """One event as the chain stores it; `billing.chain.events` reads it. `index` counts within the block."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: str
    transaction_hash: str
    index: int


@dataclass(frozen=True)
class Receipt:
    """A transaction in a block."""

    hash: str
    block_number: int
    block_hash: str
    succeeded: bool
    gas_used: int
    gas_price: int
    contract_address: str | None
    logs: tuple[Log, ...] = ()


class Chain(Protocol):
    """What services need of an Ethereum node; `client.RpcChain` and `fake.FakeChain` keep the same promises.

    Every method raises `ChainUnavailable` when the node does not answer.
    """

    def chain_id(self) -> int: ...

    def head(self) -> Block:
        """Return the newest block."""
        ...

    def finalized(self) -> Block:
        """Return the newest block the chain itself calls final. Raises `ChainRefused` where it has no such notion."""
        ...

    def block(self, number: int) -> Block | None:
        """Return a block's header, or None when the chain is not that long."""
        ...

    def transaction_count(self, address: str, *, block: int | None = None) -> int:
        """Return how many transactions of this sender are in blocks (up to `block`): the nonce of the next."""
        ...

    def ether(self, address: str) -> int:
        """Return how much ether an address has, in wei."""
        ...

    def fees(self) -> Fees:
        """Return fees that get a transaction into one of the next blocks."""
        ...

    def has_code(self, address: str) -> bool:
        """Return whether a contract lives at the address."""
        ...

    def read(self, call: Call, *, block: int | None = None, gas: int | None = None) -> bytes:
        """Return what a view function answers (at `block`), still encoded. Raises `Reverted`.

        Args:
            gas: the most it may use; without it as much as the node allows, which only a contract of ours should have.
        """
        ...

    def estimate_gas(self, call: Call, *, sender: str) -> int:
        """Return the gas the call needs now. Raises `Reverted` when it would fail."""
        ...

    def send(self, raw: bytes) -> None:
        """Hand over a signed transaction; one the node already has, or whose nonce is used, is fine.

        Raises:
            ChainRefused: the node will not take it now.
        """
        ...

    def receipt(self, transaction_hash: str) -> Receipt | None:
        """Return where the transaction was mined, or None while it is not."""
        ...

    def logs(self, *, addresses: Sequence[str], first: int, last: int) -> list[Log]:
        """Return all events of some contracts in the blocks `first` to `last`, in order.

        Raises:
            ChainRefused: for instance because the range holds too many.
        """
        ...
