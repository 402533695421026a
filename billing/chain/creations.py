"""The contracts' deployment: constructor arguments in order, and addresses known before anything is sent.

Intercoin mints to the sale and to the founders' vault, which do not exist yet; their addresses follow from the deployer's
nonces: the last 20 bytes of keccak256(rlp([sender, nonce])). Source: Ethereum yellow paper, §7.
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_utils.address import to_checksum_address

from billing.chain.interfaces import interface
from billing.chain.keccak import keccak
from billing.chain.types import ZERO_ADDRESS, Call

# Generous: what is not used is not paid. Settlement fills its ring at its creation and takes the most, 5,700,000.
GAS = 9_000_000
ADDRESS_BYTES = 20
RLP_SHORT, RLP_LIST = 0x80, 0xC0  # prefixes of a short string and of a short list
ORDER = ("Timelock", "Intercoin", "Settlement", "TokenSale", "FounderVault")


@dataclass(frozen=True)
class FeedLimits:
    """What a price feed's answers must keep to; the bounds in the feed's own units."""

    max_age_seconds: int
    decimals: int
    lowest: int
    highest: int

    def as_tuple(self) -> tuple[int, int, int, int]:
        return (self.max_age_seconds, self.decimals, self.lowest, self.highest)


@dataclass(frozen=True)
class Wanted:
    """What the contracts are told once and for all. Amounts in base units."""

    claim_delay_seconds: int
    timelock_seconds: int
    cashier_daily_units: int
    proposer: str
    operator: str
    guardian: str
    beneficiary: str
    treasury: str
    sales_manager: str
    cashier: str
    stablecoin: str
    ether_feed: str
    ntc_feed: str
    ether_limits: FeedLimits
    ntc_limits: FeedLimits


@dataclass(frozen=True)
class Addresses:
    """Where the five contracts will be if the deployer creates them in `ORDER`, beginning with a nonce."""

    timelock: str
    intercoin: str
    settlement: str
    sale: str
    vault: str


def addresses(deployer: str, nonce: int) -> Addresses:
    """Return the addresses of five contracts created one after the other."""
    return Addresses(*(created(deployer, nonce + place) for place in range(len(ORDER))))


def created(deployer: str, nonce: int) -> str:
    """Return the address of the contract a transaction creates."""
    digits = nonce.to_bytes((nonce.bit_length() + 7) // 8)
    number = digits if 0 < nonce < RLP_SHORT else bytes([RLP_SHORT + len(digits)]) + digits
    pair = bytes([RLP_SHORT + ADDRESS_BYTES]) + bytes.fromhex(deployer.removeprefix("0x")) + number
    return str(to_checksum_address(keccak(bytes([RLP_LIST + len(pair)]) + pair)[-ADDRESS_BYTES:]))


def calls(wanted: Wanted, where: Addresses) -> list[Call]:
    """Return the five creations, in `ORDER`."""
    cast = (where.timelock, wanted.sales_manager, wanted.cashier, wanted.guardian)
    return [
        interface("TimelockController").creation(
            wanted.timelock_seconds, [wanted.proposer], [wanted.proposer], ZERO_ADDRESS
        ),
        interface("Intercoin").creation(where.sale, where.vault),
        interface("Settlement").creation(
            where.intercoin, wanted.claim_delay_seconds, where.timelock, wanted.operator, wanted.guardian
        ),
        interface("TokenSale").creation(
            where.intercoin,
            where.settlement,
            wanted.stablecoin,
            wanted.ether_feed,
            (wanted.treasury, *cast),
            wanted.ether_limits.as_tuple(),
            wanted.cashier_daily_units,
        ),
        interface("FounderVault").creation(
            where.intercoin, wanted.beneficiary, where.sale, wanted.ntc_feed, wanted.ntc_limits.as_tuple()
        ),
    ]
