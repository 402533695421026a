"""A chain in memory for fast tests: one Settlement contract, real signed transactions, the same refusals.

`billing/tests/` runs the same behaviour against this and against Anvil, so that it cannot drift from the real thing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from eth_abi.abi import encode
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.abi import get_abi_output_types
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from billing.chain import merkle
from billing.chain.contracts import SettledEpoch, interface
from billing.chain.errors import ChainRefused, ChainUnavailable, Reverted
from billing.chain.types import Block, Call, Fees, Log, Receipt

GAS = 100_000
GENESIS = 1_700_000_000
WEI_PER_GWEI = 10**9


@dataclass
class FakeSettlement:
    """What the contract remembers, and its rules."""

    claim_delay: int
    deposited: int
    next_epoch: int = 1
    epochs: dict[int, SettledEpoch] = field(default_factory=dict)
    paid: dict[str, int] = field(default_factory=dict)

    def settle(self, now: int, epoch: int, payout_root: bytes, usage_root: bytes, totals: tuple[int, int, int]) -> None:
        if epoch != self.next_epoch:
            raise Reverted("SettlementUnexpectedEpoch")
        if totals[0] > self.deposited:
            raise Reverted("SettlementUnderfunded")
        roots = ("0x" + payout_root.hex(), "0x" + usage_root.hex())
        self.epochs[epoch] = SettledEpoch(*roots, claimable_at=now + self.claim_delay, vetoed=False)
        self.next_epoch += 1

    def veto(self, now: int, epoch: int) -> None:
        if now >= self._settled(epoch).claimable_at:
            raise Reverted("SettlementVetoTooLate")
        for number in range(epoch, self.next_epoch):
            kept = self.epochs[number]
            self.epochs[number] = SettledEpoch(kept.payout_root, kept.usage_root, kept.claimable_at, True)

    def claim(self, now: int, epoch: int, account: str, cumulative: int, proof: list[bytes]) -> tuple[Any, ...]:
        settled = self._settled(epoch)
        if now < settled.claimable_at:
            raise Reverted("SettlementNotClaimableYet")
        leaf = merkle.payout_leaf(account, cumulative)
        if not merkle.verify(proof=proof, root=settled.payout_root, leaf=leaf):
            raise Reverted("SettlementInvalidProof")
        before = self.paid.get(account, 0)
        if cumulative <= before:
            raise Reverted("SettlementNothingToClaim")
        if sum(self.paid.values()) - before + cumulative > self.deposited:
            raise Reverted("SettlementUnderfunded")
        self.paid[account] = cumulative
        return account, epoch, cumulative - before, cumulative

    def _settled(self, epoch: int) -> SettledEpoch:
        if epoch not in self.epochs:
            raise Reverted("SettlementUnknownEpoch")
        if self.epochs[epoch].vetoed:
            raise Reverted("SettlementVetoedEpoch")
        return self.epochs[epoch]


class FakeChain:
    """See `types.Chain` for the promises.

    Attributes:
        automine: mine each transaction at once; else they wait for `mine`.
        break_next: called before the named method, for tests that make it fail; removed once it has raised.
    """

    def __init__(self, *, chain_id: int, address: str, deposited: int, claim_delay: int = 0) -> None:
        self.settlement = FakeSettlement(claim_delay, deposited)
        self.automine = True
        self.break_next: dict[str, Callable[[], None]] = {}
        self.base_fee = WEI_PER_GWEI
        self._chain_id, self._address = chain_id, address
        self._number, self._time = 1, GENESIS
        self._counts: dict[str, int] = {}
        self._pool: dict[tuple[str, int], tuple[str, dict[str, Any]]] = {}
        self._receipts: dict[str, Receipt] = {}
        self._logs: list[Log] = []

    def chain_id(self) -> int:
        self._maybe_break("chain_id")
        return self._chain_id

    def head(self) -> Block:
        self._maybe_break("head")
        return Block(self._number, _block_hash(self._number), self._time)

    def transaction_count(self, address: str) -> int:
        self._maybe_break("transaction_count")
        return self._counts.get(address, 0)

    def fees(self) -> Fees:
        return Fees(max_fee=2 * self.base_fee + WEI_PER_GWEI, priority_fee=WEI_PER_GWEI)

    def has_code(self, address: str) -> bool:
        return address == self._address

    def read(self, call: Call) -> bytes:
        self._maybe_break("read")
        contract = interface("Settlement")
        name, arguments = contract.arguments(call.data)
        return encode(get_abi_output_types(contract.part("function", name)), _answer(self.settlement, name, arguments))

    def estimate_gas(self, call: Call, *, sender: str) -> int:
        self._maybe_break("estimate_gas")
        self._run(call.data, on=_copy(self.settlement), at=self._time + 1)
        return GAS

    def send(self, raw: bytes) -> None:
        self._maybe_break("send")
        fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        sender, nonce = str(Account.recover_transaction(raw)), int(fields["nonce"])
        known = self._pool.get((sender, nonce))
        if nonce < self._counts.get(sender, 0) or (known and known[0] == _hash(raw)):
            return
        if known and fields["maxFeePerGas"] * 10 < known[1]["maxFeePerGas"] * 11:
            raise ChainRefused("The Ethereum node refuses: replacement transaction underpriced")
        self._pool[sender, nonce] = (_hash(raw), dict(fields))
        if self.automine:
            self.mine()
        self._maybe_break("after_send")

    def receipt(self, transaction_hash: str) -> Receipt | None:
        self._maybe_break("receipt")
        return self._receipts.get(transaction_hash)

    def logs(self, *, address: str, topic: bytes, first: int, last: int) -> list[Log]:
        self._maybe_break("logs")
        return [log for log in self._logs if log.topics[0] == topic and first <= log.block_number <= last]

    # What only a test chain can be told.

    def mine(self, blocks: int = 1) -> None:
        """Put what waits, and pays the base fee, into the next block."""
        for _ in range(blocks):
            self._number += 1
            self._time += 1
            for (sender, nonce), (hash_, fields) in sorted(self._pool.items(), key=lambda item: item[0][1]):
                if nonce == self._counts.get(sender, 0) and fields["maxFeePerGas"] >= self.base_fee:
                    del self._pool[sender, nonce]
                    self._counts[sender] = nonce + 1
                    self._include(hash_, fields)

    def pass_time(self, seconds: int) -> None:
        self._time += seconds
        self.mine()

    def call_directly(self, call: Call) -> None:
        """Do what somebody else's transaction would do."""
        self._number += 1
        self._time += 1
        self._run(call.data, on=self.settlement, at=self._time, hash_="0x" + keccak(call.data).hex())

    def _include(self, hash_: str, fields: dict[str, Any]) -> None:
        try:
            self._run(bytes(HexBytes(fields["data"])), on=self.settlement, at=self._time, hash_=hash_)
            succeeded = True
        except Reverted:
            succeeded = False
        block = (self._number, _block_hash(self._number))
        self._receipts[hash_] = Receipt(hash_, *block, succeeded, GAS, self.base_fee, None)

    def _run(self, data: bytes, *, on: FakeSettlement, at: int, hash_: str = "") -> None:
        name, arguments = interface("Settlement").arguments(data)
        if name == "claim":
            epoch, account, cumulative, proof = arguments
            event = on.claim(at, epoch, to_checksum_address(account), cumulative, list(proof))
            if on is self.settlement:
                self._logs.append(self._claimed(event, hash_))
        else:
            getattr(on, name)(at, *arguments)

    def _claimed(self, event: tuple[Any, ...], hash_: str) -> Log:
        account, epoch, amount, cumulative = event
        topics = (
            interface("Settlement").topic("Claimed"),
            encode(["address"], [account]),
            encode(["uint256"], [epoch]),
        )
        return Log(self._address, topics, encode(["uint256", "uint256"], [amount, cumulative]), self._number, hash_)

    def _maybe_break(self, method: str) -> None:
        fault = self.break_next.pop(method, None)
        if fault is not None:
            fault()


def unavailable() -> None:
    """A fault for `break_next`: the node does not answer."""
    raise ChainUnavailable


def _answer(settlement: FakeSettlement, name: str, arguments: tuple[Any, ...]) -> list[Any]:
    if name == "epochs":
        kept = settlement.epochs.get(arguments[0])
        if kept is None:
            return [(bytes(32), bytes(32), 0, False)]
        roots = (bytes.fromhex(kept.payout_root[2:]), bytes.fromhex(kept.usage_root[2:]))
        return [(*roots, kept.claimable_at, kept.vetoed)]
    answers: dict[str, Callable[[], object]] = {
        "nextEpoch": lambda: settlement.next_epoch,
        "paid": lambda: settlement.paid.get(to_checksum_address(arguments[0]), 0),
        "totalDeposited": lambda: settlement.deposited,
        "totalPaid": lambda: sum(settlement.paid.values()),
        "OPERATOR_ROLE": lambda: bytes(32),
        "hasRole": lambda: True,
    }
    return [answers[name]()]


def _copy(settlement: FakeSettlement) -> FakeSettlement:
    return FakeSettlement(
        settlement.claim_delay,
        settlement.deposited,
        settlement.next_epoch,
        dict(settlement.epochs),
        dict(settlement.paid),
    )


def _hash(raw: bytes) -> str:
    return "0x" + keccak(raw).hex()


def _block_hash(number: int) -> str:
    return "0x" + keccak(number.to_bytes(32, "big")).hex()
