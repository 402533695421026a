"""Contracts in memory for `billing.chain.fake`: what each remembers, and its rules, under the real ones' names.

A contract here has a method per function it understands, named alike and given the turn and the decoded arguments, and a
method `view_<function>` per view function. A refusal is the contract's own: `Reverted("SettlementUnderfunded")`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from eth_utils.address import to_checksum_address

from billing.chain import merkle
from billing.chain.contracts import SettledEpoch
from billing.chain.errors import Reverted
from billing.chain.interfaces import interface


@dataclass
class Turn:
    """One call of a transaction: who sent it, when, and the events it causes."""

    sender: str
    now: int
    contracts: dict[str, Any]
    value: int = 0
    events: list[tuple[str, tuple[bytes, ...], bytes]] = field(default_factory=list)

    def emit(self, contract: FakeContract, event: str, **values: object) -> None:
        topics, data = interface(contract.interface).said(event, **values)
        self.events.append((contract.address, topics, data))

    def call(self, address: str, sender: str, function: str, *arguments: object) -> None:
        """Let one contract call another in the same transaction."""
        inner = Turn(sender, self.now, self.contracts, events=self.events)
        getattr(self.contracts[address], function)(inner, *arguments)


class FakeContract:
    """The base: which interface it has, and where it lives."""

    interface: ClassVar[str]
    address: str

    def run(self, turn: Turn, data: bytes) -> None:
        """Do what a transaction asks. Raises `Reverted`."""
        function, arguments = interface(self.interface).arguments(data)
        getattr(self, function)(turn, *arguments)

    def answer(self, data: bytes) -> tuple[str, list[Any]]:
        """Return the view function a call names, and its answers."""
        function, arguments = interface(self.interface).arguments(data)
        answer = getattr(self, f"view_{function}")(*arguments)
        return function, list(answer) if isinstance(answer, tuple | list) else [answer]


@dataclass
class FakeSettlement(FakeContract):
    """The Settlement contract, without the token itself: whoever deposits has it."""

    interface: ClassVar[str] = "Settlement"
    address: str
    claim_delay: int = 0
    epochs: dict[int, SettledEpoch] = field(default_factory=dict)
    vetoed: set[int] = field(default_factory=set)
    paid: dict[str, int] = field(default_factory=dict)
    deposited: dict[str, int] = field(default_factory=dict)
    announced: int = 0
    refusal: str = ""  # for tests: why no epoch is taken

    @property
    def next_epoch(self) -> int:
        return len(self.epochs) + 1

    def deposit(self, turn: Turn, account: bytes, amount: int) -> None:
        if not any(account) or amount == 0:
            raise Reverted("SettlementInvalidDeposit")
        reference = "0x" + account.hex()
        self.deposited[reference] = self.deposited.get(reference, 0) + amount
        turn.emit(self, "Deposited", account=account, payer=turn.sender, amount=amount)

    def settle(self, turn: Turn, epoch: int, payout_root: bytes, usage_root: bytes, totals: tuple[Any, ...]) -> None:
        if epoch != self.next_epoch:
            raise Reverted("SettlementUnexpectedEpoch")
        if self.refusal:
            raise Reverted(self.refusal)
        if totals[0] > sum(self.deposited.values()):
            raise Reverted("SettlementUnderfunded")
        claimable_at = turn.now + self.claim_delay
        roots = ("0x" + payout_root.hex(), "0x" + usage_root.hex())
        self.epochs[epoch] = SettledEpoch(epoch, claimable_at, *roots, totals[0])
        turn.emit(
            self,
            "Settled",
            epoch=epoch,
            payoutRoot=payout_root,
            usageRoot=usage_root,
            claimableAt=claimable_at,
            totals=totals,
        )

    def veto(self, turn: Turn, epoch: int) -> None:
        if epoch not in self.epochs:
            raise Reverted("SettlementUnknownEpoch")
        if epoch in self.vetoed:
            raise Reverted("SettlementVetoedEpoch")
        if turn.now >= self.epochs[epoch].claimable_at:
            raise Reverted("SettlementVetoTooLate")
        for number in range(epoch, self.next_epoch):
            if number not in self.vetoed:
                self.vetoed.add(number)
                turn.emit(self, "Vetoed", epoch=number, guardian=turn.sender)

    def claim(self, turn: Turn, epoch: tuple[Any, ...], account: str, cumulative: int, proof: list[bytes]) -> None:
        shown = self._claimable(turn, epoch)
        amount = self._book(turn, shown, account, cumulative, proof)
        if amount == 0:
            raise Reverted("SettlementNothingToClaim")
        self._count(shown)

    def claimMany(self, turn: Turn, epoch: tuple[Any, ...], claimants: list[tuple[Any, ...]]) -> None:
        shown = self._claimable(turn, epoch)
        for account, cumulative, proof in claimants:
            self._book(turn, shown, account, cumulative, proof)
        self._count(shown)

    def _claimable(self, turn: Turn, epoch: tuple[Any, ...]) -> SettledEpoch:
        number, claimable_at, payout_root, usage_root, cumulative = epoch
        shown = SettledEpoch(number, claimable_at, "0x" + payout_root.hex(), "0x" + usage_root.hex(), cumulative)
        if number not in self.epochs:
            raise Reverted("SettlementUnknownEpoch")
        if number in self.vetoed:
            raise Reverted("SettlementVetoedEpoch")
        if shown != self.epochs[number]:
            raise Reverted("SettlementWrongEpoch")
        if turn.now < claimable_at:
            raise Reverted("SettlementNotClaimableYet")
        return shown

    def _book(self, turn: Turn, epoch: SettledEpoch, account: str, cumulative: int, proof: Any) -> int:
        account = str(to_checksum_address(account))
        leaf = merkle.payout_leaf(account, cumulative)
        if not merkle.verify(proof=list(proof), root=epoch.payout_root, leaf=leaf):
            raise Reverted("SettlementInvalidProof")
        before = self.paid.get(account, 0)
        if cumulative <= before:
            return 0
        self.paid[account] = cumulative
        turn.emit(
            self, "Claimed", account=account, epoch=epoch.number, amount=cumulative - before, cumulative=cumulative
        )
        return cumulative - before

    def _count(self, epoch: SettledEpoch) -> None:
        self.announced = max(self.announced, epoch.cumulative)
        if sum(self.paid.values()) > self.announced:
            raise Reverted("SettlementOverdrawn")

    def view_commitment(self, epoch: int) -> tuple[bytes, int, bool]:
        kept = self.epochs.get(epoch)
        if kept is None:
            return bytes(32), 0, False
        vetoed = epoch in self.vetoed
        value = bytes.fromhex(kept.commitment(vetoed=vetoed)[2:])
        return value, 0 if vetoed else kept.claimable_at, vetoed

    def view_nextEpoch(self) -> int:
        return self.next_epoch

    def view_totalDeposited(self) -> int:
        return sum(self.deposited.values())

    def view_totalPaid(self) -> int:
        return sum(self.paid.values())

    def view_paid(self, account: str) -> int:
        return self.paid.get(str(to_checksum_address(account)), 0)

    def view_deposited(self, account: bytes) -> int:
        return self.deposited.get("0x" + account.hex(), 0)

    def view_claimDelay(self) -> int:
        return self.claim_delay

    def view_OPERATOR_ROLE(self) -> bytes:
        return bytes(32)

    def view_hasRole(self, role: bytes, account: str) -> bool:
        return True
