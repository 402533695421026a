"""Any interleaving of webhooks, lost answers, crashes, refusals and staff: money conserved, never paid twice, never lost.

Stripe is a small one in memory here, so that it can fail between any two lines; `test_cash_outs` holds the same steps to the stand-in.

Longer than 300 lines because a Stripe in memory that can fail between any two lines is part of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import hypothesis.strategies as st
from django.db import transaction
from django.db.models import Sum
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from billing import queries
from billing.models import Account, CashOut, ConnectAccount
from billing.services import accounts, cash_out_steps, cash_outs, confirmations, desk, ledger
from billing.services.ledger import Line, Posting
from billing.states import CashOutState
from billing.stripe import connect
from billing.stripe.client import StripeRefused, StripeUnavailable
from billing.stripe.connect import PayoutNews, TransferNews
from interchain_site.core.errors import DomainError
from interchain_site.testing.cast import make_person

START = datetime(2026, 3, 1, tzinfo=UTC)
NTC = 10**9
EARNED, DOLLARS = 40, 12_000
DONE = (CashOutState.PAID, CashOutState.FAILED, CashOutState.REFUSED, CashOutState.CANCELLED, CashOutState.EXPIRED)


class Crash(BaseException):
    """The process dies here."""


class MemoryStripe:
    """Balances, transfers, payouts and idempotency keys, as Stripe keeps them; `mishap` decides what the caller hears."""

    def __init__(self) -> None:
        self.ours, self.theirs, self.banked = DOLLARS, 0, 0
        self.transfers: dict[str, dict[str, Any]] = {}
        self.payouts: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, Any] = {}
        self.mishaps: list[str] = []
        self.payouts_allowed = True

    def call(self, key: str, work: Callable[[], Any]) -> Any:
        """Do it once per key; then maybe lose the answer, or let the caller die."""
        mishap = self.mishaps.pop(0) if self.mishaps else ""
        if mishap == "timeout before":
            raise StripeUnavailable
        if mishap == "crash before":
            raise Crash
        if key not in self.answers:
            try:
                self.answers[key] = work()
            except StripeRefused as error:
                self.answers[key] = error
        if mishap == "timeout after":
            raise StripeUnavailable
        if mishap == "crash after":
            raise Crash
        if isinstance(self.answers[key], StripeRefused):
            raise self.answers[key]
        return self.answers[key]

    def read(self) -> None:
        mishap = self.mishaps.pop(0) if self.mishaps else ""
        if mishap.startswith("timeout"):
            raise StripeUnavailable
        if mishap.startswith("crash"):
            raise Crash

    def find_transfer(self, group: str) -> TransferNews | None:
        self.read()
        found = self.transfers.get(group)
        return self._transfer(found) if found else None

    def create_transfer(self, *, group: str, cents: int, destination: str, idempotency_key: str) -> TransferNews:
        def work() -> dict[str, Any]:
            if cents > self.ours:
                raise refused("balance_insufficient")
            assert group not in self.transfers, "dollars were sent twice"
            self.ours, self.theirs = self.ours - cents, self.theirs + cents
            self.transfers[group] = {"id": f"tr_{group}", "group": group, "cents": cents, "back": 0, "to": destination}
            return self.transfers[group]

        return self._transfer(self.call(idempotency_key, work))

    def reverse_transfer(self, *, transfer_id: str, cents: int, idempotency_key: str) -> None:
        def work() -> bool:
            [found] = [row for row in self.transfers.values() if row["id"] == transfer_id]
            if cents > self.theirs or found["back"] + cents > found["cents"]:
                raise refused("balance_insufficient")
            found["back"] += cents
            self.ours, self.theirs = self.ours + cents, self.theirs - cents
            return True

        self.call(idempotency_key, work)

    def find_payout(self, *, account_id: str, reference: str, since: datetime) -> PayoutNews | None:
        self.read()
        found = self.payouts.get(reference)
        return self._payout(found) if found else None

    def create_payout(self, *, account_id: str, reference: str, cents: int, idempotency_key: str) -> PayoutNews:
        def work() -> dict[str, Any]:
            if not self.payouts_allowed:
                raise refused("payouts_not_allowed")
            if cents > self.theirs:
                raise refused("balance_insufficient")
            assert reference not in self.payouts, "a bank was paid twice"
            self.theirs, self.banked = self.theirs - cents, self.banked + cents
            self.payouts[reference] = {
                "id": f"po_{reference}",
                "group": reference,
                "cents": cents,
                "status": "in_transit",
            }
            return self.payouts[reference]

        return self._payout(self.call(idempotency_key, work))

    def read_payout(self, *, account_id: str, payout_id: str) -> PayoutNews:
        self.read()
        return self._payout(next(row for row in self.payouts.values() if row["id"] == payout_id))

    def bounce(self, row: dict[str, Any]) -> None:
        self.theirs, self.banked = self.theirs + row["cents"], self.banked - row["cents"]
        row["status"] = "failed"

    def _transfer(self, row: dict[str, Any]) -> TransferNews:
        return TransferNews(row["id"], row["cents"], row["back"], row["to"], row["group"], START)

    def _payout(self, row: dict[str, Any]) -> PayoutNews:
        code = "account_closed" if row["status"] == "failed" else ""
        return PayoutNews(row["id"], row["cents"], row["status"], code, START.date(), row["group"], START)


def refused(reason: str) -> StripeRefused:
    error = StripeRefused("Stripe said no.")
    error.reason = reason
    return error


MISHAPS = st.lists(
    st.sampled_from(["", "", "timeout before", "timeout after", "crash before", "crash after"]), max_size=4
)
NAMES = ("find_transfer", "create_transfer", "reverse_transfer", "find_payout", "create_payout", "read_payout")


class CashOutMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.now, self.missing = START, 0
        self.stripe = MemoryStripe()
        self.patches = [patch.object(connect, name, getattr(self.stripe, name)) for name in NAMES]
        self.patches.append(patch.object(confirmations, "ask", lambda **kwargs: None))
        self.patches.append(patch.object(confirmations, "confirmed", lambda **kwargs: True))
        for each in self.patches:
            each.start()
        self.owner, self.staff = make_person("owner"), make_person("staff")
        ConnectAccount.objects.create(
            user=self.owner, stripe_id="acct_1", country="US", currency="usd", bank="Bank ····1", submitted=True,
            payable=True, created_at=START,
        )  # fmt: skip
        self.fill()

    def fill(self) -> None:
        desk.set_rate(rate=Decimal(1), by=None, now=self.now)
        ntc, usd = accounts.platform_account, lambda kind: accounts.platform_account(kind, "USD")
        lines = (
            Line(ntc("escrow"), -(EARNED + 100) * NTC),
            Line(accounts.user_account(self.owner.pk, "earnings_available"), EARNED * NTC),
            Line(ntc("desk_inventory"), 100 * NTC),
            Line(usd("stripe_clearing"), -DOLLARS),
            Line(usd("company_usd"), DOLLARS),
        )
        ledger.post(postings=[Posting("fill", "test", lines, START)], now=START)

    def teardown(self) -> None:
        for each in self.patches:
            each.stop()
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    def rows(self, *states: str) -> list[CashOut]:
        found = CashOut.objects.order_by("created_at", "pk")
        return list(found.filter(state__in=states) if states else found)

    @rule(cents=st.integers(500, 1500), confirm=st.sampled_from([True, True, True, False]))
    def sell(self, cents, confirm):
        with contextlib.suppress(DomainError):
            asked = cash_outs.ask(user=self.owner, now=self.now, cents=cents)
            if confirm:
                cash_outs.go_on(cash_out_id=asked.pk, user=self.owner, now=self.now)

    @precondition(lambda self: self.rows())
    @rule(mishaps=MISHAPS, backwards=st.booleans())
    def work(self, mishaps, backwards):
        """Workers, a sweep or webhooks take what steps they can, with whatever goes wrong on the way."""
        rows = self.rows()
        self.stripe.mishaps = list(mishaps)
        for row in reversed(rows) if backwards else rows:
            with contextlib.suppress(DomainError, Crash):
                cash_out_steps.advance(cash_out_id=row.pk, now=self.now)
        self.stripe.mishaps = []

    @precondition(lambda self: self.stripe.payouts)
    @rule(index=st.integers(0, 9), what=st.sampled_from(["arrive", "bounce"]))
    def bank(self, index, what):
        rows = [row for row in self.stripe.payouts.values() if row["status"] == "in_transit" or what == "bounce"]
        rows = [row for row in rows if row["status"] != "failed"]
        if rows:
            row = rows[index % len(rows)]
            if what == "bounce":
                self.stripe.bounce(row)
            else:
                row["status"] = "paid"

    @rule(seconds=st.sampled_from([1, 60, 121, 90_000]))
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)

    @rule(allowed=st.booleans())
    def switch_payouts(self, allowed):
        self.stripe.payouts_allowed = allowed

    @precondition(lambda self: self.stripe.ours)
    @rule()
    def the_company_takes_dollars_out(self):
        """Stripe has less than our books say, until the company puts it back."""
        self.stripe.ours, self.missing = 0, self.missing + self.stripe.ours

    @precondition(lambda self: self.missing)
    @rule()
    def the_company_puts_them_back(self):
        self.stripe.ours, self.missing = self.stripe.ours + self.missing, 0

    @precondition(lambda self: self.rows(CashOutState.RESERVED))
    @rule()
    def staff_give_back(self):
        with contextlib.suppress(DomainError):
            cash_out_steps.give_back(cash_out_id=self.rows(CashOutState.RESERVED)[0].pk, by=self.staff, now=self.now)

    @precondition(lambda self: self.rows(CashOutState.ASKED))
    @rule()
    def cancel(self):
        with contextlib.suppress(DomainError):
            cash_outs.cancel(cash_out_id=self.rows(CashOutState.ASKED)[0].pk, user=self.owner, now=self.now)

    @invariant()
    def books_sum_to_zero_and_nothing_is_below_it(self):
        for currency in ("NTC", "USD"):
            assert Account.objects.filter(currency=currency).aggregate(total=Sum("balance"))["total"] == 0
        assert not Account.objects.filter(balance__lt=0, may_be_negative=False).exists()

    @invariant()
    def dollars_at_stripe_are_conserved(self):
        stripe = self.stripe
        assert stripe.ours + stripe.theirs + stripe.banked + self.missing == DOLLARS
        assert min(stripe.ours, stripe.theirs) >= 0

    @invariant()
    def nobody_has_both_the_dollars_and_the_ntc(self):
        for row in self.rows(CashOutState.FAILED):
            sent = self.stripe.transfers.get(row.subject)
            assert sent is None or sent["back"] == sent["cents"]
            paid = self.stripe.payouts.get(row.subject)
            assert paid is None or paid["status"] == "failed"

    @invariant()
    def the_persons_ntc_are_all_there(self):
        found = queries.balances(self.owner.pk)
        sold = sum(row.units for row in self.rows() if row.paid_at and row.state != CashOutState.FAILED)
        assert found.earnings_available + found.cashing_out + sold == EARNED * NTC
        under_way = [CashOutState.RESERVED, CashOutState.TRANSFERRED, CashOutState.ON_THE_WAY, CashOutState.RETURNING]
        assert found.cashing_out == sum(row.units for row in self.rows(*under_way) if row.paid_at is None)

    def finish(self) -> None:
        """Once nothing goes wrong any more, everything ends, and our books say what Stripe says."""
        self.stripe.ours, self.missing = self.stripe.ours + self.missing, 0
        self.stripe.payouts_allowed = True
        for _ in range(8):
            self.now += timedelta(seconds=300)
            for row in self.rows():
                if row.state == CashOutState.ASKED:
                    cash_outs.expire(cash_out_id=row.pk, now=row.expires_at)
                cash_out_steps.advance(cash_out_id=row.pk, now=self.now)
            for payout in self.stripe.payouts.values():
                payout["status"] = "paid" if payout["status"] == "in_transit" else payout["status"]
        states = {row.state for row in self.rows()}
        assert states <= {str(state) for state in DONE}, states
        assert -queries.platform_balance("stripe_clearing", "USD") == self.stripe.ours
        assert queries.platform_balance("payout_clearing", "USD") == 0
        assert self.stripe.banked == sum(row.cents for row in self.rows(CashOutState.PAID))
        assert self.stripe.theirs == 0


class ToTheEnd(CashOutMachine):
    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            super().teardown()


def test_any_interleaving(db):
    quick = hypothesis_settings(
        max_examples=15,
        stateful_step_count=25,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(ToTheEnd, settings=quick)
