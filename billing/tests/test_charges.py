"""Charging, the hold, and what a publisher who cannot pay owes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from billing import queries
from billing.errors import IdempotencyConflict
from billing.models import Account, EarningsDay, HeldEarning, Transaction
from billing.services import accounts, charges, ledger
from billing.services.charges import ChargeResult, UsageCharge
from billing.services.ledger import Line, Posting
from interchain_site.core.errors import Conflict, NotFound
from interchain_site.core.models import AuditEvent

NOW = datetime(2026, 3, 1, 23, 59, 30, tzinfo=UTC)
HOLD = timedelta(days=1)


@pytest.fixture
def fund(cast):
    """Give the publisher NTC to spend."""

    def give(units: int) -> None:
        lines = (
            Line(accounts.platform_account("escrow"), -units),
            Line(accounts.user_account(cast.publisher.pk, "available"), units),
        )
        ledger.post(postings=[Posting(f"fund:{Transaction.objects.count()}", "test", lines, NOW)], now=NOW)

    return give


@pytest.fixture
def usage(cast):
    def make(key: str, owner_units: int = 100, commission_units: int = 10, at: datetime = NOW, **more) -> UsageCharge:
        values = {"publisher_id": cast.publisher.pk, "owner_id": cast.owner.pk, "reference": "lease:1", **more}
        return UsageCharge(key, owner_units=owner_units, commission_units=commission_units, effective_at=at, **values)

    return make


def total(kind: str) -> int:
    return sum(Account.objects.filter(kind=kind).values_list("balance", flat=True))


def held_rows_agree() -> bool:
    rows: dict[int, int] = {}
    for row in HeldEarning.objects.all():
        rows[row.account_id] = rows.get(row.account_id, 0) + row.units
    return all(rows.get(a.pk, 0) == a.balance for a in Account.objects.filter(kind="earnings_held"))


def test_the_publisher_pays_owner_and_platform(fund, usage, cast):
    fund(1000)
    assert charges.charge_usage(charges=[usage("a"), usage("b")], now=NOW) == [
        ChargeResult("a", 110, 0),
        ChargeResult("b", 110, 0),
    ]
    assert queries.available_units(cast.publisher.pk) == 780
    assert (total("earnings_held"), total("commission"), total("shortfall")) == (200, 20, 0)
    assert held_rows_agree()


def test_the_owner_is_paid_though_the_publisher_cannot(fund, usage, cast):
    fund(150)
    results = charges.charge_usage(charges=[usage("a"), usage("b"), usage("c")], now=NOW)
    assert results == [ChargeResult("a", 110, 0), ChargeResult("b", 40, 70), ChargeResult("c", 0, 110)]
    found = queries.balances(cast.publisher.pk)
    assert (found.available, found.owed) == (0, 180)
    assert total("earnings_held") == 300


def test_a_repeated_charge_returns_its_first_result(fund, usage):
    fund(50)
    first = charges.charge_usage(charges=[usage("a")], now=NOW)
    fund(1000)
    assert charges.charge_usage(charges=[usage("a"), usage("a")], now=NOW) == first * 2
    assert total("earnings_held") == 100
    assert held_rows_agree()


def test_a_key_means_one_charge(fund, usage, cast):
    fund(1000)
    charges.charge_usage(charges=[usage("a")], now=NOW)
    for other in (usage("a", 101), usage("a", 100, 11), usage("a", owner_id=cast.stranger.pk)):
        with pytest.raises(IdempotencyConflict):
            charges.charge_usage(charges=[other], now=NOW)
    with pytest.raises(IdempotencyConflict):
        charges.charge_usage(charges=[usage("b"), usage("b", 5)], now=NOW)
    assert total("earnings_held") == 100


def test_nothing_used_writes_nothing(fund, usage):
    assert charges.charge_usage(charges=[usage("a", 0, 0)], now=NOW) == [ChargeResult("a", 0, 0)]
    assert charges.charge_usage(charges=[], now=NOW) == []
    assert not Transaction.objects.exists()


def test_a_charge_is_not_negative(usage):
    with pytest.raises(ValueError, match="reverse_charge"):
        charges.charge_usage(charges=[usage("a", -1)], now=NOW)


def test_a_publisher_may_be_the_owner(fund, usage, cast):
    fund(1000)
    charges.charge_usage(charges=[usage("a", owner_id=cast.publisher.pk)], now=NOW)
    found = queries.balances(cast.publisher.pk)
    assert (found.available, found.earnings_held) == (890, 100)


def test_earnings_leave_the_hold_by_when_they_were_earned(fund, usage, cast):
    fund(1000)
    late, early = usage("a", at=NOW), usage("b", 30, 3, at=NOW - timedelta(hours=2))
    charges.charge_usage(charges=[late, early], now=NOW + timedelta(hours=5))
    assert charges.release_matured_earnings(now=NOW - timedelta(hours=2, seconds=1) + HOLD) == 0
    assert charges.release_matured_earnings(now=NOW - timedelta(hours=2) + HOLD) == 30
    assert charges.release_matured_earnings(now=NOW - timedelta(hours=2) + HOLD) == 0
    assert charges.release_matured_earnings(now=NOW + HOLD) == 100
    found = queries.balances(cast.owner.pk)
    assert (found.earnings_held, found.earnings_available) == (0, 130)
    assert held_rows_agree()


def test_a_late_reading_of_a_released_moment_is_released_too(fund, usage):
    fund(1000)
    charges.charge_usage(charges=[usage("a")], now=NOW)
    assert charges.release_matured_earnings(now=NOW + HOLD) == 100
    charges.charge_usage(charges=[usage("b", 7, 1)], now=NOW + HOLD)
    assert charges.release_matured_earnings(now=NOW + HOLD) == 7
    assert held_rows_agree()


def test_released_earnings_repay_a_debt_first(fund, usage, cast):
    charges.charge_usage(
        charges=[usage("a", publisher_id=cast.owner.pk, owner_id=cast.publisher.pk)], now=NOW
    )  # owner owes 110
    fund(1000)
    charges.charge_usage(charges=[usage("b", 150, 15)], now=NOW)
    charges.release_matured_earnings(now=NOW + HOLD)
    found = queries.balances(cast.owner.pk)
    assert (found.owed, found.earnings_available) == (0, 40)


def test_earnings_are_summed_by_utc_day(fund, usage, cast):
    fund(1000)
    charges.charge_usage(charges=[usage("a"), usage("b"), usage("c", at=NOW + timedelta(minutes=1))], now=NOW)
    rows = EarningsDay.objects.order_by("day").values_list("day", "units")
    assert list(rows) == [(date(2026, 3, 1), 200), (date(2026, 3, 2), 100)]


def test_a_wrong_charge_is_reversed_while_it_is_held(fund, usage, cast):
    fund(1000)
    charges.charge_usage(charges=[usage("a"), usage("b")], now=NOW)
    pk = Transaction.objects.get(key="a").pk
    ids = {charges.reverse_charge(transaction_id=pk, key="undo", by=cast.staff, memo="double") for _ in range(2)}
    assert len(ids) == 1
    assert (queries.available_units(cast.publisher.pk), total("earnings_held")) == (890, 100)
    assert EarningsDay.objects.get().units == 100
    assert held_rows_agree()
    with pytest.raises(Conflict):
        charges.reverse_charge(transaction_id=pk, key="undo again", by=cast.staff, memo="")
    assert held_rows_agree()


def test_after_the_hold_it_is_too_late(fund, usage, cast):
    fund(1000)
    charges.charge_usage(charges=[usage("a")], now=NOW)
    charges.release_matured_earnings(now=NOW + HOLD)
    pk = Transaction.objects.get(key="a").pk
    with pytest.raises(Conflict, match="hold"):
        charges.reverse_charge(transaction_id=pk, key="undo", by=cast.staff, memo="")
    with pytest.raises(NotFound):
        charges.reverse_charge(transaction_id=pk + 1, key="undo", by=cast.staff, memo="")


def test_the_plain_reverse_refuses_charges(fund, usage, cast):
    fund(1000)
    charges.charge_usage(charges=[usage("a")], now=NOW)
    with pytest.raises(Conflict, match="reverse_charge"):
        ledger.reverse(transaction_id=Transaction.objects.get(key="a").pk, key="undo", by=cast.staff, memo="")


def test_many_charges_take_few_queries(fund, usage, django_assert_max_num_queries):
    from django.db import connection

    fund(10**6)
    batch = [usage(str(n)) for n in range(1000)]
    if connection.vendor == "postgresql":
        with django_assert_max_num_queries(18):
            charges.charge_usage(charges=batch, now=NOW)
    else:
        charges.charge_usage(charges=batch, now=NOW)
    assert total("earnings_held") == 100_000


@pytest.fixture
def half_paid(fund, usage, settings):
    """Two charges of 110, of which 150 are paid: 60 of the owner's 200 are not."""
    fund(150)
    charges.charge_usage(charges=[usage("a"), usage("b")], now=NOW)
    return NOW + timedelta(seconds=settings.EARNINGS_HOLD_SECONDS)


def test_what_nobody_paid_for_does_not_leave(half_paid, cast):
    """A made-up reading against an empty account is owed to the owner, but becomes no NTC that can be claimed."""
    assert charges.release_matured_earnings(now=half_paid) == 140
    assert charges.release_matured_earnings(now=half_paid) == 0
    assert queries.unpaid_units(cast.owner.pk) == queries.balances(cast.owner.pk).earnings_held == 60
    assert held_rows_agree()


def test_it_leaves_once_the_publisher_has_paid(half_paid, cast):
    charges.release_matured_earnings(now=half_paid)
    owed = Line(accounts.user_account(cast.publisher.pk, "shortfall"), 70)
    paid = Posting("repaid", "test", (owed, Line(accounts.platform_account("escrow"), -70)), NOW)
    ledger.post(postings=[paid], now=NOW)
    assert charges.release_matured_earnings(now=half_paid) == 60
    assert queries.balances(cast.owner.pk).earnings_available == 200
    assert held_rows_agree()


def test_staff_may_let_it_go(half_paid, cast):
    charges.release_matured_earnings(now=half_paid)
    everything = list(HeldEarning.objects.values_list("pk", flat=True))
    assert charges.let_go_unpaid(held_ids=everything, by=cast.staff) == 60
    assert charges.let_go_unpaid(held_ids=everything, by=cast.staff) == 0
    assert charges.release_matured_earnings(now=half_paid) == 60
    assert AuditEvent.objects.get(action="unpaid_earnings_let_go").by == cast.staff


def test_a_half_paid_charge_can_be_reversed(half_paid, cast):
    charge = Transaction.objects.get(key="b")
    charges.reverse_charge(transaction_id=charge.pk, key="r", by=cast.staff, memo="fraud")
    assert queries.unpaid_units(cast.owner.pk) == 0
    assert (total("earnings_held"), queries.balances(cast.publisher.pk).owed) == (100, 0)
    assert held_rows_agree()
