"""FounderVault: what its views say about the two conditions of the founders' lock (whitepaper §4).

Prices in nano-dollars per NTC, times in seconds since 1970; 0 means "not known yet" throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from billing.chain.interfaces import interface
from billing.chain.types import Call, Chain


@dataclass(frozen=True)
class FounderVault:
    """The FounderVault contract at an address."""

    address: str

    def price_target(self, chain: Chain) -> int:
        """Return the average price that opens it; 0 while round 3 is not opened."""
        return self._number(chain, "priceTarget")

    def average_price(self, chain: Chain) -> int:
        """Return the time-weighted price over the window; 0 while no unbroken row of observations spans it."""
        return self._number(chain, "averagePrice")

    def unlocks_at(self, chain: Chain) -> int:
        """Return when time alone opens it; 0 while round 3 is not closed."""
        return self._number(chain, "unlocksAt")

    def released(self, chain: Chain) -> int:
        """Return the base units of NTC that have gone to the beneficiary."""
        return self._number(chain, "released")

    def is_open(self, chain: Chain) -> bool:
        return bool(self._read(chain, "isOpen"))

    def window_seconds(self, chain: Chain) -> int:
        """Return how long the average reaches back."""
        return self._number(chain, "WINDOW")

    def observed_since(self, chain: Chain) -> int:
        """Return when the unbroken row of observations began; 0 without any."""
        return self._number(chain, "observedSince")

    def last_observation(self, chain: Chain) -> tuple[int, int]:
        """Return time and price of the newest observation."""
        observed_at, price = self._read(chain, "lastObservation")
        return int(observed_at), int(price)

    def beneficiary(self, chain: Chain) -> str:
        return str(self._read(chain, "beneficiary"))

    def observe(self) -> Call:
        """Note the feed's price; anybody may send it."""
        return interface("FounderVault").call(self.address, "observe")

    def _number(self, chain: Chain, function: str) -> int:
        return int(self._read(chain, function))

    def _read(self, chain: Chain, function: str) -> Any:
        return interface("FounderVault").read(chain, self.address, function)
