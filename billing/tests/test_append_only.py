"""The database itself holds the ledger's rules, for raw SQL too. Runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from billing.models import Account, DeskRate, Entry, Transaction
from billing.services import accounts, desk, ledger
from billing.services.ledger import Line, Posting

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def posted(cast) -> tuple[int, int]:
    """One posted transaction; returns the two accounts' ids."""
    escrow, purse = accounts.platform_account("escrow"), accounts.user_account(cast.buyer.pk, "available")
    ledger.post(postings=[Posting("a", "test", (Line(escrow, -7), Line(purse, 7)), NOW)], now=NOW)
    return escrow, purse


def refused(sql: str, *params: object) -> str:
    with pytest.raises(DatabaseError) as error, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, params)
    return str(error.value)


@pytest.mark.parametrize("table", ["billing_transaction", "billing_entry", "billing_deskrate"])
def test_nothing_is_updated_or_deleted(posted, cast, table):
    desk.set_rate(rate=Decimal(1), by=cast.staff, now=NOW)
    column = {"billing_transaction": "memo = 'x'", "billing_entry": "amount = 1", "billing_deskrate": "rate = 9"}[table]
    assert "append-only" in refused(f"UPDATE {table} SET {column}")
    assert "append-only" in refused(f"DELETE FROM {table}")


def test_not_through_the_models_either(posted, cast):
    rate = desk.set_rate(rate=Decimal(1), by=cast.staff, now=NOW)
    rate.rate = Decimal(2)
    for change in (
        rate.save,
        rate.delete,
        Entry.objects.first().delete,
        Transaction.objects.all().delete,
        lambda: Entry.objects.update(amount=3),
        lambda: DeskRate.objects.update(rate=3),
    ):
        with pytest.raises((DatabaseError, IntegrityError)), transaction.atomic():
            change()


def test_nobody_sets_a_balance(posted):
    _, purse = posted
    assert "Only ledger entries" in refused("UPDATE billing_account SET balance = 1000 WHERE id = %s", purse)
    assert "Only ledger entries" in refused("UPDATE billing_account SET balance = balance + 1")
    assert "Only ledger entries" in refused(
        "INSERT INTO billing_account (kind, currency, balance, may_be_negative, created_at)"
        " VALUES ('x', 'NTC', 5, true, CURRENT_TIMESTAMP)"
    )
    assert list(Account.objects.filter(pk__in=posted).order_by("balance").values_list("balance", flat=True)) == [-7, 7]


def test_raw_entries_move_balances_and_nothing_goes_below_zero(posted):
    escrow, purse = posted
    pk = Transaction.objects.create(key="raw", kind="test", effective_at=NOW, created_at=NOW).pk
    with pytest.raises(DatabaseError), transaction.atomic():
        Entry.objects.bulk_create(
            [
                Entry(transaction_id=pk, account_id=escrow, amount=8, balance_after=1),
                Entry(transaction_id=pk, account_id=purse, amount=-8, balance_after=-1),
            ]
        )
    assert Account.objects.get(pk=purse).balance == 7


def test_an_entry_of_nothing_is_refused(posted):
    escrow, _ = posted
    pk = Transaction.objects.create(key="raw", kind="test", effective_at=NOW, created_at=NOW).pk
    refused(
        "INSERT INTO billing_entry (transaction_id, account_id, amount, balance_after) VALUES (%s, %s, 0, -7)",
        pk,
        escrow,
    )


@pytest.mark.django_db(transaction=True)
def test_unbalanced_entries_never_commit(cast):
    """The same on both: PostgreSQL refuses the statement, SQLite the COMMIT (a deferred foreign key)."""
    escrow = accounts.platform_account("escrow")
    pk = Transaction.objects.create(key="raw", kind="test", effective_at=NOW, created_at=NOW).pk
    with pytest.raises(DatabaseError), transaction.atomic():
        Entry.objects.create(transaction_id=pk, account_id=escrow, amount=-5, balance_after=-5)
    assert not Entry.objects.exists()
    assert Account.objects.get(pk=escrow).balance == 0


@pytest.mark.django_db(transaction=True)
def test_balance_holds_per_currency(cast):
    """Minus five NTC and plus five cents is not zero."""
    escrow, sales = accounts.platform_account("escrow"), accounts.platform_account("desk_sales_usd", "USD")
    pk = Transaction.objects.create(key="raw", kind="test", effective_at=NOW, created_at=NOW).pk
    with pytest.raises(DatabaseError), transaction.atomic():
        Entry.objects.bulk_create(
            [
                Entry(transaction_id=pk, account_id=escrow, amount=-5, balance_after=-5),
                Entry(transaction_id=pk, account_id=sales, amount=5, balance_after=5),
            ]
        )
    assert not Entry.objects.exists()


@pytest.mark.postgres
@pytest.mark.skipif(connection.vendor != "postgresql", reason="statement triggers are PostgreSQL's")
def test_a_written_transaction_takes_no_more_entries(posted):
    escrow, purse = posted
    pk = Transaction.objects.get().pk
    with pytest.raises(IntegrityError, match="written once"), transaction.atomic():
        Entry.objects.bulk_create(
            [
                Entry(transaction_id=pk, account_id=escrow, amount=-1, balance_after=-8),
                Entry(transaction_id=pk, account_id=purse, amount=1, balance_after=8),
            ]
        )


@pytest.mark.postgres
@pytest.mark.skipif(connection.vendor != "postgresql", reason="TRUNCATE is PostgreSQL's")
def test_truncate_is_refused(posted):
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # else the pending foreign keys already refuse it
    assert "append-only" in refused("TRUNCATE billing_entry")
    assert "append-only" in refused("TRUNCATE billing_transaction CASCADE")


def test_a_transaction_key_is_unique(posted):
    with pytest.raises(IntegrityError), transaction.atomic():
        Transaction.objects.create(key="a", kind="test", effective_at=NOW, created_at=NOW)


def test_the_triggers_can_be_removed_and_installed_again(db):
    """A later migration that rebuilds a table calls `install` again."""
    from billing import triggers

    class Editor:
        connection = connection

        @staticmethod
        def execute(sql: str, params: None) -> None:
            with connection.cursor() as cursor:
                cursor.execute(sql)

    with transaction.atomic():
        triggers.remove(None, Editor)
        triggers.install(None, Editor)
