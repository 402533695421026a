"""TokenSale: how to call it, and what its answers mean. Encoding and decoding only; the node is a `Chain` handed in.

Amounts of NTC in base units, prices in nano-dollars per NTC, times in seconds since 1970 (0: not yet).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from billing.chain.interfaces import interface
from billing.chain.permits import PermitSignature
from billing.chain.types import ZERO_HASH, Call, Chain

CARRY, LOCK = 1, 2  # what may become of a round's unsold NTC


@dataclass(frozen=True)
class RoundView:
    """What the contract holds for a round. `target` is without what was carried into it."""

    target: int
    sold: int
    carried: int
    price_nano_usd: int
    opened_at: int
    closed_at: int


@dataclass(frozen=True)
class TokenSale:
    """The TokenSale contract at an address."""

    address: str

    def open_round(self, *, price_nano_usd: int) -> Call:
        return self._call("openRound", price_nano_usd)

    def close_round(self) -> Call:
        return self._call("closeRound")

    def decide_unsold(self, *, number: int, decision: int, reason: str) -> Call:
        return self._call("decideUnsold", number, decision, reason)

    def allocate(self, *, account: str, units: int, reference: str) -> Call:
        """Deposit NTC paid for by card for a portal account; each reference once."""
        return self._call("allocate", _bytes(account), units, _bytes(reference))

    def buy_with_stablecoin(self, *, units: int, max_cost: int, account: str = "") -> Call:
        """Buy for at most `max_cost` base units of the stablecoin; without an account the NTC go to the sender."""
        return self._call("buyWithStablecoin", units, max_cost, _bytes(account or ZERO_HASH))

    def buy_with_permit(
        self, *, units: int, max_cost: int, account: str, deadline: int, signature: PermitSignature
    ) -> Call:
        """The same, approved by a signature (EIP-2612) over `max_cost` until `deadline`."""
        destination = _bytes(account or ZERO_HASH)
        parts = (signature.v, signature.r, signature.s)
        return self._call("buyWithStablecoinPermit", units, max_cost, destination, deadline, *parts)

    def buy_with_ether(self, *, min_units: int, account: str = "") -> Call:
        """Buy for the ether sent along, at least `min_units`."""
        return self._call("buyWithEther", min_units, _bytes(account or ZERO_HASH))

    def round(self, chain: Chain, number: int) -> RoundView:
        return RoundView(*(int(value) for value in self._read(chain, "round", number)))

    def current_round(self, chain: Chain) -> int:
        """Return the round opened last, 0 before the first; it may be closed."""
        return int(self._read(chain, "currentRound"))

    def decision_of(self, chain: Chain, number: int) -> int:
        """Return 0 while nothing is decided, else `CARRY` or `LOCK`."""
        return int(self._read(chain, "decisionOf", number))

    def reference_used(self, chain: Chain, reference: str) -> bool:
        return bool(self._read(chain, "referenceUsed", _bytes(reference)))

    def paused(self, chain: Chain) -> bool:
        return bool(self._read(chain, "paused"))

    def left(self, chain: Chain) -> int:
        """Return what can be bought now; 0 when no round is open."""
        return int(self._read(chain, "left"))

    def cashier_left(self, chain: Chain) -> int:
        """Return what the cashier may still allocate today."""
        return int(self._read(chain, "cashierLeft"))

    def quote_stablecoin(self, chain: Chain, units: int) -> int:
        """Return the cost in the stablecoin's base units. Raises `Reverted` when no round is open."""
        return int(self._read(chain, "quoteStablecoin", units))

    def quote_ether(self, chain: Chain, units: int) -> int:
        """Return the cost in wei. Raises `Reverted` when no round is open or the price feed is not to be believed."""
        return int(self._read(chain, "quoteEther", units))

    def treasury(self, chain: Chain) -> str:
        return str(self._read(chain, "treasury"))

    def _call(self, function: str, *arguments: object) -> Call:
        return interface("TokenSale").call(self.address, function, *arguments)

    def _read(self, chain: Chain, function: str, *arguments: object) -> Any:
        return interface("TokenSale").read(chain, self.address, function, *arguments)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
