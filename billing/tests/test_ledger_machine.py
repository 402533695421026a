"""Any interleaving of postings, retries, reversals, charges and releases: sums to zero, nothing below zero, caches true."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from django.conf import settings
from django.db import transaction
from django.db.models import Sum
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from billing.errors import IdempotencyConflict, InsufficientFunds
from billing.models import Account, EarningsDay, Entry, HeldEarning, Transaction
from billing.services import accounts, charges, ledger
from billing.services.charges import UsageCharge
from billing.services.ledger import Line, Posting
from interchain_site.core.errors import Conflict
from interchain_site.testing.cast import make_person

START = datetime(2026, 3, 1, tzinfo=UTC)
AMOUNTS = st.integers(min_value=1, max_value=50)


class LedgerMachine(RuleBasedStateMachine):
    posted = Bundle("posted")
    charged = Bundle("charged")

    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.now = START
        self.keys = 0
        people = [make_person(f"person{n}") for n in range(3)]
        self.people = [person.pk for person in people]
        self.purses = [accounts.user_account(pk, "available") for pk in self.people]
        self.escrow = accounts.platform_account("escrow")
        self.model: Counter[int] = Counter()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    def key(self) -> str:
        self.keys += 1
        return f"key:{self.keys}"

    def owing(self) -> set[int]:
        return set(Account.objects.filter(kind="shortfall", balance__lt=0).values_list("user_id", flat=True))

    def apply(self, posting: Posting) -> None:
        for line in posting.lines:
            self.model[line.account_id] += line.amount

    @rule(
        target=posted, moves=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), AMOUNTS), min_size=1, max_size=5)
    )
    def post_batch(self, moves):
        every = [*self.purses, self.escrow]
        batch = [
            Posting(self.key(), "test", (Line(every[source], -amount), Line(every[target], amount)), self.now)
            for source, target, amount in moves
            if source != target
        ]
        after, fits = self.model.copy(), True
        for posting in batch:
            for line in posting.lines:
                after[line.account_id] += line.amount
            fits &= all(after[line.account_id] >= 0 or line.account_id == self.escrow for line in posting.lines)
        if not fits:
            with pytest.raises(InsufficientFunds), transaction.atomic():
                ledger.post(postings=batch, now=self.now)
            return multiple()
        ids = ledger.post(postings=batch, now=self.now)
        self.model = after
        return multiple(*zip(ids, batch, strict=True))

    @rule(known=posted, amount=AMOUNTS)
    def post_again(self, known, amount):
        pk, posting = known
        assert ledger.post(postings=[posting], now=self.now) == [pk]
        other = Posting(
            posting.key, "test", (Line(self.escrow, -amount - 50), Line(self.purses[0], amount + 50)), self.now
        )
        with pytest.raises(IdempotencyConflict), transaction.atomic():
            ledger.post(postings=[other], now=self.now)

    @rule(known=consumes(posted))
    def reverse(self, known):
        pk, posting = known
        after = self.model.copy()
        for line in posting.lines:
            after[line.account_id] -= line.amount
        if any(after[purse] < 0 for purse in self.purses):
            with pytest.raises(InsufficientFunds), transaction.atomic():
                ledger.reverse(transaction_id=pk, key=self.key(), by=None, memo="", now=self.now)
            return
        ledger.reverse(transaction_id=pk, key=self.key(), by=None, memo="", now=self.now)
        self.model = after

    @rule(
        target=charged,
        uses=st.lists(
            st.tuples(st.integers(0, 2), st.integers(0, 2), AMOUNTS, st.integers(0, 5)), min_size=1, max_size=4
        ),
        hours_late=st.integers(0, 30),
    )
    def charge(self, uses, hours_late):
        at = self.now - timedelta(hours=hours_late)
        batch = [
            UsageCharge(self.key(), self.people[payer], self.people[owner], units, commission, at, "lease:1")
            for payer, owner, units, commission in uses
        ]
        results = charges.charge_usage(charges=batch, now=self.now)
        assert results == charges.charge_usage(charges=batch, now=self.now)
        for charge, result in zip(batch, results, strict=True):
            total = charge.owner_units + charge.commission_units
            payer = accounts.user_account(charge.publisher_id, "available")
            assert result.paid_units == min(total, self.model[payer])
            assert result.paid_units + result.shortfall_units == total
            self.model[payer] -= result.paid_units
            self.model[accounts.user_account(charge.publisher_id, "shortfall")] -= result.shortfall_units
            self.model[accounts.user_account(charge.owner_id, "earnings_held")] += charge.owner_units
            self.model[accounts.platform_account("commission")] += charge.commission_units
        return multiple(*(charge.key for charge in batch))

    @rule(key=consumes(charged))
    def reverse_charge(self, key):
        original = Transaction.objects.get(key=key)
        matured = original.effective_at + timedelta(seconds=settings.EARNINGS_HOLD_SECONDS) <= self.now
        lines = list(original.entries.values_list("account_id", "amount"))
        try:
            with transaction.atomic():
                charges.reverse_charge(transaction_id=original.pk, key=self.key(), by=None, memo="", now=self.now)
        except Conflict:
            assert matured  # only a hold that is over may refuse
            return
        except InsufficientFunds:
            return
        for account_id, amount in lines:
            self.model[account_id] -= amount

    @rule(hours=st.integers(0, 30))
    def time_passes(self, hours):
        self.now += timedelta(hours=hours)
        cutoff = self.now - timedelta(seconds=settings.EARNINGS_HOLD_SECONDS)
        owed_before = self.owing()
        matured = list(HeldEarning.objects.filter(effective_at__lte=cutoff))
        released = charges.release_matured_earnings(now=self.now)
        left = set(HeldEarning.objects.values_list("pk", flat=True))
        expected: Counter[int] = Counter()
        for row in matured:
            if row.pk in left:
                assert row.unpaid
                assert row.publisher_id in owed_before
            else:
                expected[row.account_id] += row.units
                # A debt repaid within this very pass frees what it held up.
                assert not row.unpaid or row.publisher_id not in self.owing()
        assert released == sum(expected.values())
        for row in Account.objects.filter(pk__in=expected):
            units = expected[row.pk]
            debt = accounts.user_account(row.user_id, "shortfall")
            repaid = min(units, max(0, -self.model[debt]))
            self.model[row.pk] -= units
            self.model[debt] += repaid
            self.model[accounts.user_account(row.user_id, "earnings_available")] += units - repaid

    @invariant()
    def balances_are_what_the_model_says_and_what_the_entries_sum_to(self):
        sums = dict(Entry.objects.values_list("account_id").annotate(Sum("amount")).order_by())
        for account in Account.objects.all():
            assert account.balance == self.model[account.pk] == sums.get(account.pk, 0)
            assert account.balance >= 0 or account.may_be_negative
            last = Entry.objects.filter(account=account).order_by("-id").first()
            assert last is None or last.balance_after == account.balance

    @invariant()
    def everything_sums_to_zero(self):
        assert (Entry.objects.aggregate(total=Sum("amount"))["total"] or 0) == 0
        per_transaction = Entry.objects.values_list("transaction_id").annotate(Sum("amount")).order_by()
        assert all(total == 0 for _, total in per_transaction)

    @invariant()
    def the_hold_lists_what_is_held(self):
        rows = dict(HeldEarning.objects.values_list("account_id").annotate(Sum("units")).order_by())
        held = dict(Account.objects.filter(kind="earnings_held").values_list("id", "balance"))
        assert rows == {pk: balance for pk, balance in held.items() if balance}

    @invariant()
    def days_sum_to_what_was_earned_and_not_reversed(self):
        days = EarningsDay.objects.aggregate(total=Sum("units"))["total"] or 0
        earned = (
            Entry.objects.filter(
                account__kind="earnings_held", transaction__kind__in=["usage_charge", "usage_charge_reversed"]
            ).aggregate(total=Sum("amount"))["total"]
            or 0
        )
        assert days == earned


@pytest.mark.slow
def test_ledger_machine(db):
    quick = hypothesis_settings(
        max_examples=25,
        stateful_step_count=15,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(LedgerMachine, settings=quick)
