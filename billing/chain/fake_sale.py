"""The token sale, the founders' vault and two tokens in memory, for `billing.chain.fake`: the real ones' rules and names.

Whoever may call what is not checked here: Forge's tests have the role matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from eth_utils.address import to_checksum_address

from billing.chain.errors import Reverted
from billing.chain.fake_contracts import FakeContract, Turn
from billing.chain.types import ZERO_ADDRESS

NTC = USD = 10**9
NOBODY = bytes(32)
CARRY, LOCK, ROUNDS, MAX_PRICE_RISE = 1, 2, 3, 3
STABLECOIN, ETHER, CARD = 0, 1, 2
TARGETS = (10_000_000 * NTC, 3_000_000 * NTC, 7_000_000 * NTC)
PRICE_FACTOR, LOCK_SECONDS, WINDOW_SECONDS = 10, 1096 * 86_400, 30 * 86_400
DAY_SECONDS = 86_400


@dataclass
class FakeRound:
    target: int
    sold: int = 0
    carried: int = 0
    price: int = 0
    opened_at: int = 0
    closed_at: int = 0

    @property
    def open(self) -> bool:
        return self.opened_at != 0 and self.closed_at == 0

    @property
    def unsold(self) -> int:
        return self.target + self.carried - self.sold


@dataclass
class FakeToken(FakeContract):
    """An ERC-20; `balances` may be set."""

    interface: ClassVar[str] = "Intercoin"
    address: str
    ticker: str = "NTC"
    places: int = 9
    supply: int = 25_000_000 * NTC
    balances: dict[str, int] = field(default_factory=dict)
    allowances: dict[tuple[str, str], int] = field(default_factory=dict)

    def approve(self, turn: Turn, spender: str, value: int) -> None:
        self.allowances[turn.sender, str(to_checksum_address(spender))] = value

    def transfer(self, turn: Turn, to: str, value: int) -> None:
        self._move(turn.sender, str(to_checksum_address(to)), value)

    def take(self, owner: str, spender: str, to: str, value: int) -> None:
        if self.allowances.get((owner, spender), 0) < value:
            raise Reverted("ERC20InsufficientAllowance")
        self.allowances[owner, spender] -= value
        self._move(owner, to, value)

    def _move(self, owner: str, to: str, value: int) -> None:
        if self.balances.get(owner, 0) < value:
            raise Reverted("ERC20InsufficientBalance")
        self.balances[owner] -= value
        self.balances[to] = self.balances.get(to, 0) + value

    def view_totalSupply(self) -> int:
        return self.supply

    def view_balanceOf(self, account: str) -> int:
        return self.balances.get(str(to_checksum_address(account)), 0)

    def view_symbol(self) -> str:
        return self.ticker

    def view_decimals(self) -> int:
        return self.places


@dataclass
class FakeTokenSale(FakeContract):
    """TokenSale. `usd_per_ether` stands for the price feed; 0: not to be believed."""

    interface: ClassVar[str] = "TokenSale"
    address: str
    settlement: str
    token: FakeToken
    stablecoin: FakeToken
    proceeds: str
    usd_per_ether: int = 2_500
    daily_limit: int = 2_000_000 * NTC
    rounds: list[FakeRound] = field(default_factory=lambda: [FakeRound(target) for target in TARGETS])
    current: int = 0
    decisions: dict[int, int] = field(default_factory=dict)
    used: set[bytes] = field(default_factory=set)
    allocated: dict[int, int] = field(default_factory=dict)
    is_paused: bool = False

    def openRound(self, turn: Turn, price: int) -> None:
        before = self.rounds[self.current - 1] if self.current else None
        if before is not None and before.open:
            raise Reverted("TokenSaleRoundStillOpen")
        if self.current == ROUNDS:
            raise Reverted("TokenSaleNoFurtherRound")
        if price == 0 or (before is not None and price > MAX_PRICE_RISE * before.price):
            raise Reverted("TokenSaleInvalidPrice")
        self.current += 1
        opened = self.rounds[self.current - 1]
        opened.price, opened.opened_at = price, turn.now
        turn.emit(self, "RoundOpened", round=self.current, priceNanoUsd=price, target=opened.target + opened.carried)

    def closeRound(self, turn: Turn) -> None:
        closed = self._open()
        closed.closed_at = turn.now
        turn.emit(self, "RoundClosed", round=self.current, sold=closed.sold, unsold=closed.unsold)

    def decideUnsold(self, turn: Turn, number: int, decision: int, reason: str) -> None:
        if not 1 <= number <= ROUNDS or not self.rounds[number - 1].closed_at:
            raise Reverted("TokenSaleNotClosed")
        if number in self.decisions:
            raise Reverted("TokenSaleAlreadyDecided")
        unsold = self.rounds[number - 1].unsold
        if unsold == 0:
            raise Reverted("TokenSaleNothingUnsold")
        if decision == CARRY:
            if number == ROUNDS or self.rounds[number].closed_at:
                raise Reverted("TokenSaleCannotCarry")
            self.rounds[number].carried = unsold
        elif decision != LOCK:
            raise Reverted("TokenSaleUnknownDecision")
        self.decisions[number] = decision
        turn.emit(self, "UnsoldDecided", round=number, decision=decision, ntc=unsold, by=turn.sender, reason=reason)

    def allocate(self, turn: Turn, account: bytes, units: int, reference: bytes) -> None:
        self._running()
        if reference in self.used:
            raise Reverted("TokenSaleReferenceUsed")
        if units > self._cashier_left(turn.now):
            raise Reverted("TokenSaleCashierLimit")
        self.used.add(reference)
        self._sell(units)
        day = turn.now // DAY_SECONDS
        self.allocated[day] = self.allocated.get(day, 0) + units
        self._bought(turn, ZERO_ADDRESS, account, CARD, units, 0, reference)

    def buyWithStablecoin(self, turn: Turn, units: int, max_cost: int, account: bytes) -> None:
        self._running()
        cost = self.view_quoteStablecoin(units)
        if cost > max_cost:
            raise Reverted("TokenSaleTooDear")
        self._sell(units)
        turn.contracts[self.stablecoin.address].take(turn.sender, self.address, self.proceeds, cost)
        self._bought(turn, turn.sender, account, STABLECOIN, units, cost, NOBODY)

    def buyWithEther(self, turn: Turn, least: int, account: bytes) -> None:
        self._running()
        price = self._open().price
        if not self.usd_per_ether:
            raise Reverted("PriceFeedStale")
        units = min(turn.value * self.usd_per_ether // price, self._open().unsold)
        if units < least:
            raise Reverted("TokenSaleTooLittle")
        self._sell(units)
        self._bought(turn, turn.sender, account, ETHER, units, min(turn.value, self._wei(units)), NOBODY)

    def pause(self, turn: Turn) -> None:
        self.is_paused = True

    def unpause(self, turn: Turn) -> None:
        self.is_paused = False

    def _bought(
        self, turn: Turn, buyer: str, account: bytes, asset: int, units: int, paid: int, reference: bytes
    ) -> None:
        facts: dict[str, Any] = {"asset": asset, "ntc": units, "paid": paid, "paymentReference": reference}
        turn.emit(self, "Bought", buyer=buyer, account=account, round=self.current, **facts)
        if account == NOBODY:
            turn.call(self.token.address, self.address, "transfer", buyer, units)
        else:
            turn.call(self.settlement, self.address, "deposit", account, units)

    def _sell(self, units: int) -> None:
        current = self._open()
        if units == 0:
            raise Reverted("TokenSaleNothingBought")
        if units > current.unsold:
            raise Reverted("TokenSaleSoldOut")
        current.sold += units

    def _open(self) -> FakeRound:
        if not self.current or not self.rounds[self.current - 1].open:
            raise Reverted("TokenSaleNoOpenRound")
        return self.rounds[self.current - 1]

    def _running(self) -> None:
        if self.is_paused:
            raise Reverted("EnforcedPause")

    def _wei(self, units: int) -> int:
        return -(-units * self._open().price // self.usd_per_ether)

    def _cashier_left(self, now: int) -> int:
        return max(0, self.daily_limit - self.allocated.get(now // DAY_SECONDS, 0))

    def view_round(self, number: int) -> list[Any]:
        found = self.rounds[number - 1]
        return [(found.target, found.sold, found.carried, found.price, found.opened_at, found.closed_at)]

    def view_currentRound(self) -> int:
        return self.current

    def view_decisionOf(self, number: int) -> int:
        return self.decisions.get(number, 0)

    def view_referenceUsed(self, reference: bytes) -> bool:
        return reference in self.used

    def view_paused(self) -> bool:
        return self.is_paused

    def view_left(self) -> int:
        found = self.rounds[self.current - 1] if self.current else None
        return found.unsold if found and found.open else 0

    def view_cashierLeft(self) -> int:
        return max(0, self.daily_limit - max(self.allocated.values(), default=0))

    def view_quoteStablecoin(self, units: int) -> int:
        unit: int = 10**self.stablecoin.places
        return -(-units * self._open().price * unit // (NTC * USD))

    def view_quoteEther(self, units: int) -> int:
        if not self.usd_per_ether:
            raise Reverted("PriceFeedStale")
        return self._wei(units)

    def view_treasury(self) -> str:
        return self.proceeds


@dataclass
class FakeVault(FakeContract):
    """FounderVault's views; `average` may be set."""

    interface: ClassVar[str] = "FounderVault"
    address: str
    sale: str
    average: int = 0
    price_target: int = 0
    unlocks_at: int = 0
    released: int = 0
    open: bool = False
    observed: tuple[int, int] = (0, 0)
    since: int = 0

    def view_priceTarget(self) -> int:
        return self.price_target

    def view_averagePrice(self) -> int:
        return self.average

    def view_unlocksAt(self) -> int:
        return self.unlocks_at

    def view_released(self) -> int:
        return self.released

    def view_isOpen(self) -> bool:
        return self.open

    def view_WINDOW(self) -> int:
        return WINDOW_SECONDS

    def view_lastObservation(self) -> tuple[int, int]:
        return self.observed

    def view_observedSince(self) -> int:
        return self.since
