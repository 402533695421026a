"""Settlement and Intercoin: how to call them, and what their answers mean. The node is a `Chain` handed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from billing.chain.interfaces import interface
from billing.chain.permits import PermitSignature
from billing.chain.types import Call, Chain

METERS = 5
CLAIMABLE_BITS = 40


@dataclass(frozen=True)
class Totals:
    """What an epoch adds up to, since the beginning: base units, leaves of the payout tree, and of each meter its base units.

    Attributes:
        statements: leaves of this epoch's usage tree.
        meters: transfer, storage, compute, uptime, active users.
    """

    cumulative: int
    accounts: int
    statements: int
    meters: tuple[int, ...] = (0,) * METERS


@dataclass(frozen=True)
class SettledEpoch:
    """An epoch as the event `Settled` told it; who claims shows it. `claimable_at` is seconds since 1970."""

    number: int
    claimable_at: int
    payout_root: str
    usage_root: str
    cumulative: int

    def commitment(self, *, vetoed: bool = False) -> str:
        """Return what the contract keeps of it: 216 bits of its hash, then `claimable_at`, 0 once it is vetoed."""
        types = ["uint64", "uint64", "bytes32", "bytes32", "uint96"]
        hashed = int.from_bytes(keccak(encode(types, self.shown())))
        kept = hashed >> CLAIMABLE_BITS << CLAIMABLE_BITS | (0 if vetoed else self.claimable_at)
        return "0x" + kept.to_bytes(32).hex()

    def shown(self) -> tuple[int, int, bytes, bytes, int]:
        return (self.number, self.claimable_at, _bytes(self.payout_root), _bytes(self.usage_root), self.cumulative)


@dataclass(frozen=True)
class Commitment:
    """What the contract keeps of an epoch. `claimable_at` is 0 for a vetoed one."""

    value: str
    claimable_at: int
    vetoed: bool


@dataclass(frozen=True)
class Claimant:
    """One payee of `claimMany`. `cumulative` is all the wallet has ever earned, base units."""

    account: str
    cumulative: int
    proof: list[bytes]


@dataclass(frozen=True)
class Settlement:
    """The Settlement contract at an address."""

    address: str

    def settle(self, *, epoch: int, payout_root: str, usage_root: str, totals: Totals) -> Call:
        sums = (totals.cumulative, totals.accounts, totals.statements, totals.meters)
        return self._call("settle", epoch, _bytes(payout_root), _bytes(usage_root), sums)

    def claim(self, *, epoch: SettledEpoch, account: str, cumulative: int, proof: list[bytes]) -> Call:
        return self._call("claim", epoch.shown(), account, cumulative, proof)

    def claim_many(self, *, epoch: SettledEpoch, claimants: Sequence[Claimant]) -> Call:
        """Pay several at once; who has nothing to claim is skipped."""
        shown = [(one.account, one.cumulative, one.proof) for one in claimants]
        return self._call("claimMany", epoch.shown(), shown)

    def deposit(self, *, reference: str, amount: int) -> Call:
        """Deposit approved NTC for an account of the portal (`billing.services.chain_accounts`)."""
        return self._call("deposit", _bytes(reference), amount)

    def deposit_with_permit(self, *, reference: str, amount: int, deadline: int, signature: PermitSignature) -> Call:
        """Deposit in one transaction, approved by a signature (EIP-2612) over `amount` until `deadline`."""
        parts = (signature.v, signature.r, signature.s)
        return self._call("depositWithPermit", _bytes(reference), amount, deadline, *parts)

    def veto(self, *, epoch: int) -> Call:
        return self._call("veto", epoch)

    def next_epoch(self, chain: Chain, *, block: int | None = None) -> int:
        return int(self._read(chain, "nextEpoch", block=block))

    def commitment(self, chain: Chain, number: int) -> Commitment | None:
        """Return what the contract keeps of an epoch; None for one not settled, or 128 epochs ago."""
        value, claimable_at, vetoed = self._read(chain, "commitment", number)
        return Commitment("0x" + value.hex(), claimable_at, vetoed) if any(value) else None

    def paid(self, chain: Chain, account: str) -> int:
        return int(self._read(chain, "paid", account))

    def deposited(self, chain: Chain, reference: str) -> int:
        return int(self._read(chain, "deposited", _bytes(reference)))

    def totals(self, chain: Chain, *, block: int | None = None) -> tuple[int, int]:
        """Return base units ever deposited and ever paid out."""
        deposited = int(self._read(chain, "totalDeposited", block=block))
        return deposited, int(self._read(chain, "totalPaid", block=block))

    def has_operator(self, chain: Chain, account: str) -> bool:
        role = self._read(chain, "OPERATOR_ROLE")
        return bool(self._read(chain, "hasRole", role, account))

    def _call(self, function: str, *arguments: object) -> Call:
        return interface("Settlement").call(self.address, function, *arguments)

    def _read(self, chain: Chain, function: str, *arguments: object, block: int | None = None) -> Any:
        return interface("Settlement").read(chain, self.address, function, *arguments, block=block)


@dataclass(frozen=True)
class Intercoin:
    """The NTC token at an address."""

    address: str

    def approve(self, *, spender: str, amount: int) -> Call:
        return interface("Intercoin").call(self.address, "approve", spender, amount)

    def transfer(self, *, to: str, amount: int) -> Call:
        return interface("Intercoin").call(self.address, "transfer", to, amount)

    def balance(self, chain: Chain, account: str, *, block: int | None = None) -> int:
        return int(interface("Intercoin").read(chain, self.address, "balanceOf", account, block=block))

    def allowance(self, chain: Chain, *, owner: str, spender: str) -> int:
        return int(interface("Intercoin").read(chain, self.address, "allowance", owner, spender))


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
