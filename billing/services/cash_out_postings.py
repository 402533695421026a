"""What the ledger does at each step of a cash-out. Every posting has its step in its key, so it is made once.

The caller holds the cash-out's row lock; accounts are locked after it, in id order.
"""

from __future__ import annotations

from datetime import datetime

from billing import money
from billing.models import CashOut
from billing.services import accounts, ledger
from billing.services.accounts import CASHING_OUT, EARNINGS_AVAILABLE, SHORTFALL
from billing.services.ledger import Line, Posting

_KINDS = (EARNINGS_AVAILABLE, CASHING_OUT, SHORTFALL)


class Counter:
    """The accounts of one cash-out: the person's, the desk's, and the dollars'; all locked."""

    def __init__(self, cash_out: CashOut) -> None:
        self.cash_out = cash_out
        people = accounts.user_accounts([(cash_out.user_id, kind) for kind in _KINDS])
        self.ids = {kind: people[cash_out.user_id, kind] for kind in _KINDS}
        self.inventory = accounts.platform_account("desk_inventory")
        self.sales = accounts.platform_account("desk_sales_usd", "USD")
        self.promised = accounts.platform_account("payout_clearing", "USD")
        self.stripe = accounts.platform_account("stripe_clearing", "USD")
        dollars = {self.sales, self.promised, self.stripe}
        locked = ledger.lock_accounts({*self.ids.values(), self.inventory, *dollars})
        self.owed = max(0, -locked[self.ids[SHORTFALL]].balance)

    def post(self, step: str, lines: list[Line], *, now: datetime, memo: str) -> None:
        kept = tuple(line for line in lines if line.amount)
        subject = self.cash_out.subject
        ledger.post(postings=[Posting(f"{subject}:{step}", f"cash_out_{step}", kept, now, memo, subject)], now=now)

    def lines(self, ntc: dict[int, int], usd: dict[int, int]) -> list[Line]:
        """Return lines that move the whole of the cash-out: +1 or −1 per account."""
        units, cents = self.cash_out.units, self.cash_out.cents
        return [
            *(Line(pk, sign * units) for pk, sign in ntc.items()),
            *(Line(pk, sign * cents) for pk, sign in usd.items()),
        ]


def reserve(cash_out: CashOut, *, now: datetime) -> None:
    """Set the NTC aside, and the dollars as promised.

    Raises:
        InsufficientFunds: the earnings are not there any more.
    """
    counter = Counter(cash_out)
    ntc = {counter.ids[EARNINGS_AVAILABLE]: -1, counter.ids[CASHING_OUT]: 1}
    memo = f"Cashing out for {money.format_usd_cents(cash_out.cents)}"
    counter.post("reserved", counter.lines(ntc, {counter.sales: -1, counter.promised: 1}), now=now, memo=memo)


def transferred(cash_out: CashOut, *, now: datetime) -> None:
    """The dollars left our balance at Stripe for the person's."""
    counter = Counter(cash_out)
    lines = counter.lines({}, {counter.promised: -1, counter.stripe: 1})
    counter.post("transferred", lines, now=now, memo="Sent to the person's account at Stripe")


def paid(cash_out: CashOut, *, now: datetime) -> None:
    """The bank has the dollars; the desk has the NTC, to sell again."""
    counter = Counter(cash_out)
    lines = counter.lines({counter.ids[CASHING_OUT]: -1, counter.inventory: 1}, {})
    counter.post("paid", lines, now=now, memo=f"Cashed out for {money.format_usd_cents(cash_out.cents)}")


def dollars_back(cash_out: CashOut, *, now: datetime) -> None:
    """The dollars are the desk's again: from our promise, or out of the person's account at Stripe."""
    counter = Counter(cash_out)
    source = counter.stripe if cash_out.transferred_at else counter.promised
    lines = counter.lines({}, {source: -1, counter.sales: 1})
    counter.post("dollars_back", lines, now=now, memo="A cash-out came back")


def ntc_back(cash_out: CashOut, *, now: datetime) -> None:
    """The person has the NTC again; what they owe by now is repaid first.

    Raises:
        InsufficientFunds: it was paid before the bank sent it back, and the desk has sold the NTC meanwhile.
    """
    counter = Counter(cash_out)
    repaid = min(cash_out.units, counter.owed)
    source = counter.inventory if cash_out.paid_at else counter.ids[CASHING_OUT]
    lines = [
        Line(source, -cash_out.units),
        Line(counter.ids[SHORTFALL], repaid),
        Line(counter.ids[EARNINGS_AVAILABLE], cash_out.units - repaid),
    ]
    counter.post("ntc_back", lines, now=now, memo="A cash-out came back; the NTC are yours again")
