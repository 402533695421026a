"""A chain in memory for fast tests: contracts of `fake_contracts`, real signed transactions, the same refusals.

`billing/tests/` runs the same behaviour against this and against Anvil, so that it cannot drift from the real thing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from eth_abi.abi import encode
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.abi import get_abi_output_types
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from billing.chain.errors import ChainRefused, ChainUnavailable, Reverted
from billing.chain.fake_contracts import FakeContract, FakeSettlement, Turn
from billing.chain.interfaces import interface
from billing.chain.types import ZERO_HASH, Block, Call, Fees, Log, Receipt

GAS = 100_000
GENESIS = 1_700_000_000
WEI_PER_GWEI = 10**9
STRANGER = "0x00000000000000000000000000000000000000AA"
ETHER = 10**18
UNDONE_BLOCKS = 128  # as many as can be taken back


@dataclass
class State:
    """Everything a reorganisation takes back."""

    contracts: dict[str, Any]
    counts: dict[str, int] = field(default_factory=dict)
    receipts: dict[str, Receipt] = field(default_factory=dict)
    logs: list[Log] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=lambda: [Block(1, _hash(b"genesis"), GENESIS, ZERO_HASH)])

    def copy(self) -> State:
        return State(
            deepcopy(self.contracts), dict(self.counts), dict(self.receipts), list(self.logs), list(self.blocks)
        )


class FakeChain:
    """See `types.Chain` for the promises.

    Attributes:
        contracts: what lives at which address; add your own.
        automine: mine each transaction at once; else they wait for `mine`.
        break_next: called before the named method, for tests that make it fail; removed once it has raised.
        finalized_depth: how many blocks the chain itself calls final lie behind the newest; None: it has no such notion.
        purse: how much ether everybody has, in wei.
    """

    def __init__(self, *, chain_id: int, address: str, claim_delay: int = 0) -> None:
        self.settlement_address = address
        self.automine = True
        self.break_next: dict[str, Callable[[], None]] = {}
        self.base_fee = WEI_PER_GWEI
        self.finalized_depth: int | None = None
        self.purse = 10 * ETHER
        self._chain_id, self._forks, self._skipped = chain_id, 0, 0
        self._state = State({address: FakeSettlement(address, claim_delay)})
        self._before: list[State] = []  # what each of the newest blocks was built on
        self._pool: dict[tuple[str, int], tuple[bytes, dict[str, Any]]] = {}
        self._raws: dict[str, tuple[str, bytes, dict[str, Any]]] = {}  # every transaction ever mined, by hash

    @property
    def contracts(self) -> dict[str, FakeContract]:
        return self._state.contracts

    @property
    def settlement(self) -> FakeSettlement:
        found = self._state.contracts[self.settlement_address]
        assert isinstance(found, FakeSettlement)  # noqa: S101  (for the type checker)
        return found

    def chain_id(self) -> int:
        self._maybe_break("chain_id")
        return self._chain_id

    def head(self) -> Block:
        self._maybe_break("head")
        return self._state.blocks[-1]

    def finalized(self) -> Block:
        self._maybe_break("finalized")
        if self.finalized_depth is None:
            raise ChainRefused("The Ethereum node calls no block finalized.")
        return self._state.blocks[max(len(self._state.blocks) - 1 - self.finalized_depth, 0)]

    def block(self, number: int) -> Block | None:
        self._maybe_break("block")
        blocks = self._state.blocks
        return blocks[number - 1] if 1 <= number <= len(blocks) else None

    def transaction_count(self, address: str, *, block: int | None = None) -> int:
        self._maybe_break("transaction_count")
        return self._at(block).counts.get(address, 0)

    def ether(self, address: str) -> int:
        self._maybe_break("ether")
        return self.purse

    def fees(self) -> Fees:
        return Fees(max_fee=2 * self.base_fee + WEI_PER_GWEI, priority_fee=WEI_PER_GWEI)

    def has_code(self, address: str) -> bool:
        return address in self._state.contracts

    def read(self, call: Call, *, block: int | None = None, gas: int | None = None) -> bytes:
        self._maybe_break("read")
        contract = self._at(block).contracts.get(str(call.to))
        if contract is None:
            return b""  # as a node answers where no contract lives
        function, answers = contract.answer(call.data)
        return encode(get_abi_output_types(interface(contract.interface).part("function", function)), answers)

    def estimate_gas(self, call: Call, *, sender: str) -> int:
        self._maybe_break("estimate_gas")
        contracts = deepcopy(self._state.contracts)
        contracts[str(call.to)].run(Turn(sender, self._state.blocks[-1].timestamp + 1, contracts), call.data)
        return GAS

    def send(self, raw: bytes) -> None:
        self._maybe_break("send")
        fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        sender, nonce = str(Account.recover_transaction(raw)), int(fields["nonce"])
        known = self._pool.get((sender, nonce))
        if nonce < self._state.counts.get(sender, 0) or (known and known[0] == raw):
            return
        if int(fields["gas"]) * fields["maxFeePerGas"] > self.purse:
            raise ChainRefused("The Ethereum node refuses: insufficient funds for gas * price + value")
        if known and any(fields[fee] * 10 < known[1][fee] * 11 for fee in ("maxFeePerGas", "maxPriorityFeePerGas")):
            raise ChainRefused("The Ethereum node refuses: replacement transaction underpriced")
        self._pool[sender, nonce] = (raw, dict(fields))
        if self.automine:
            self.mine()
        self._maybe_break("after_send")

    def receipt(self, transaction_hash: str) -> Receipt | None:
        self._maybe_break("receipt")
        return self._state.receipts.get(transaction_hash)

    def logs(self, *, addresses: Sequence[str], first: int, last: int) -> list[Log]:
        self._maybe_break("logs")
        return [log for log in self._state.logs if log.address in addresses and first <= log.block_number <= last]

    # What only a test chain can be told.

    def mine(self, blocks: int = 1) -> None:
        """Put what waits, and pays the base fee, into the next block."""
        for _ in range(blocks):
            self._begin_block()
            for (sender, nonce), (raw, fields) in sorted(self._pool.items(), key=lambda item: item[0][1]):
                if nonce == self._state.counts.get(sender, 0) and fields["maxFeePerGas"] >= self.base_fee:
                    del self._pool[sender, nonce]
                    self._state.counts[sender] = nonce + 1
                    self._include(sender, raw, fields)

    def pass_time(self, seconds: int) -> None:
        self._skipped += seconds
        self.mine()

    def call_directly(self, call: Call, *, sender: str = STRANGER, value: int = 0) -> str:
        """Do what somebody else's transaction would do, in a block of its own; returns its hash. Raises `Reverted`."""
        self._begin_block()
        hash_ = _hash(call.data + len(self._state.blocks).to_bytes(8) + self._forks.to_bytes(8))
        self._run(hash_, call, sender, value)
        return hash_

    def reorganise(self, depth: int, *, drop: bool = False) -> None:
        """Take the newest blocks back and build as many others; our transactions wait again, or are dropped."""
        taken = [receipt.hash for receipt in self._state.receipts.values()]
        kept, self._before = self._before[-depth], self._before[:-depth]
        self._state, self._forks = kept, self._forks + 1
        for hash_ in taken:
            if hash_ not in self._state.receipts and hash_ in self._raws and not drop:
                sender, raw, fields = self._raws[hash_]
                self._pool[sender, int(fields["nonce"])] = (raw, fields)
        self.mine(depth)

    def forget_pool(self) -> None:
        """Drop every transaction that waits."""
        self._pool.clear()

    def _begin_block(self) -> None:
        self._before = [*self._before[1 - UNDONE_BLOCKS :], self._state.copy()]
        newest = self._state.blocks[-1]
        seed = f"{newest.hash}{self._forks}".encode()
        time, self._skipped = newest.timestamp + 1 + self._skipped, 0
        self._state.blocks.append(Block(newest.number + 1, _hash(seed), time, newest.hash))

    def _include(self, sender: str, raw: bytes, fields: dict[str, Any]) -> None:
        hash_ = _hash(raw)
        self._raws[hash_] = (sender, raw, fields)
        to = str(to_checksum_address(fields["to"]))
        try:
            self._run(hash_, Call(to, bytes(HexBytes(fields["data"]))), sender, int(fields["value"]))
        except Reverted:
            self._receipt(hash_, ())

    def _run(self, hash_: str, call: Call, sender: str, value: int) -> None:
        block = self._state.blocks[-1]
        before = deepcopy(self._state.contracts)
        turn = Turn(sender, block.timestamp, self._state.contracts, value)
        try:
            self._state.contracts[str(call.to)].run(turn, call.data)
        except Reverted:
            self._state.contracts = before
            raise
        first = sum(log.block_number == block.number for log in self._state.logs)
        logs = tuple(
            Log(address, topics, data, block.number, block.hash, hash_, first + place)
            for place, (address, topics, data) in enumerate(turn.events)
        )
        self._state.logs += logs
        self._receipt(hash_, logs, succeeded=True)

    def _receipt(self, hash_: str, logs: tuple[Log, ...], *, succeeded: bool = False) -> None:
        block = self._state.blocks[-1]
        where = (hash_, block.number, block.hash)
        self._state.receipts[hash_] = Receipt(*where, succeeded, GAS, self.base_fee, None, logs)

    def _at(self, block: int | None) -> State:
        behind = 0 if block is None else self._state.blocks[-1].number - block
        return self._state if behind <= 0 else self._before[-behind]

    def _maybe_break(self, method: str) -> None:
        fault = self.break_next.pop(method, None)
        if fault is not None:
            fault()


def unavailable() -> None:
    """A fault for `break_next`: the node does not answer."""
    raise ChainUnavailable


def _hash(data: bytes) -> str:
    return "0x" + keccak(data).hex()
