"""Taking NTC back from a person, and giving NTC to one who may owe some.

What a refund or a lost dispute takes back may be spent already. Then the rest is written on the person's `shortfall`
account, which goes negative: a debt. Whatever comes in later repays it first, so a person who owes has nothing to spend:
`available` is zero while `shortfall` is below zero. The callers hold the locks.
"""

from __future__ import annotations

from billing.services import accounts, ledger
from billing.services.accounts import AVAILABLE, EARNINGS_AVAILABLE, FROZEN, SHORTFALL
from billing.services.ledger import Line

_KINDS = (AVAILABLE, EARNINGS_AVAILABLE, FROZEN, SHORTFALL)


class Purse:
    """A person's accounts, locked for the rest of the transaction together with `others`."""

    def __init__(self, user_id: int, others: set[int]) -> None:
        found = accounts.user_accounts([(user_id, kind) for kind in _KINDS])
        self.ids = {kind: found[user_id, kind] for kind in _KINDS}
        locked = ledger.lock_accounts({*self.ids.values(), *others})
        self.balances = {kind: locked[pk].balance for kind, pk in self.ids.items()}

    def line(self, kind: str, amount: int) -> Line:
        return Line(self.ids[kind], amount)

    def take(self, units: int) -> list[Line]:
        """Return lines that take `units` (base units): first what can be spent, then free earnings, then as a debt."""
        spendable = min(units, self.balances[AVAILABLE])
        earned = min(units - spendable, self.balances[EARNINGS_AVAILABLE])
        return [
            self.line(AVAILABLE, -spendable),
            self.line(EARNINGS_AVAILABLE, -earned),
            self.line(SHORTFALL, -(units - spendable - earned)),
        ]

    def give(self, units: int) -> list[Line]:
        """Return lines that give `units` (base units): first to repay what is owed, the rest to spend."""
        repaid = min(units, max(0, -self.balances[SHORTFALL]))
        return [self.line(SHORTFALL, repaid), self.line(AVAILABLE, units - repaid)]
