"""post(): many postings in one call, once each, never below zero."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from billing.errors import IdempotencyConflict, InsufficientFunds, Unbalanced
from billing.models import Account, Entry, Transaction
from billing.services import accounts, ledger
from billing.services.ledger import Line, Posting
from interchain_site.core.errors import Conflict, NotFound
from interchain_site.core.models import AuditEvent

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def balance(account_id: int) -> int:
    return Account.objects.get(pk=account_id).balance


@pytest.fixture
def escrow(db) -> int:
    return accounts.platform_account("escrow")


@pytest.fixture
def purse(cast) -> int:
    return accounts.user_account(cast.publisher.pk, "available")


def move(key: str, source: int, target: int, amount: int) -> Posting:
    return Posting(key, "test", (Line(source, -amount), Line(target, amount)), NOW)


def test_a_posting_moves_both_balances(escrow, purse):
    [pk] = ledger.post(postings=[move("a", escrow, purse, 70)], now=NOW)
    assert (balance(escrow), balance(purse)) == (-70, 70)
    row = Transaction.objects.get(pk=pk)
    assert (row.key, row.effective_at, row.created_at) == ("a", NOW, NOW)


def test_ids_come_back_in_the_order_asked(escrow, purse):
    first = ledger.post(postings=[move("b", escrow, purse, 1)], now=NOW)
    ids = ledger.post(postings=[move(key, escrow, purse, 1) for key in ("c", "b", "a")], now=NOW)
    assert [Transaction.objects.get(pk=pk).key for pk in ids] == ["c", "b", "a"]
    assert ids[1] == first[0]


def test_the_same_key_posts_once(escrow, purse):
    again = [ledger.post(postings=[move("a", escrow, purse, 70)], now=NOW) for _ in range(3)]
    assert len({pk for [pk] in again}) == 1
    assert balance(purse) == 70


def test_the_same_key_twice_in_one_call_posts_once(escrow, purse):
    first, second = ledger.post(postings=[move("a", escrow, purse, 70)] * 2, now=NOW)
    assert first == second
    assert balance(purse) == 70


def test_the_same_key_with_other_lines_is_a_conflict(escrow, purse):
    ledger.post(postings=[move("a", escrow, purse, 70)], now=NOW)
    with pytest.raises(IdempotencyConflict):
        ledger.post(postings=[move("new", escrow, purse, 5), move("a", escrow, purse, 71)], now=NOW)
    with pytest.raises(IdempotencyConflict):
        ledger.post(postings=[move("b", escrow, purse, 1), move("b", escrow, purse, 2)], now=NOW)
    assert balance(purse) == 70
    assert Transaction.objects.count() == 1


def test_no_balance_below_zero_and_nothing_of_the_batch_stays(escrow, purse):
    with pytest.raises(InsufficientFunds) as refused:
        ledger.post(postings=[move("a", escrow, purse, 5), move("b", purse, escrow, 6)], now=NOW)
    assert (refused.value.account_id, refused.value.key) == (purse, "b")
    assert Transaction.objects.count() == Entry.objects.count() == balance(purse) == 0


def test_order_counts_inside_a_batch(escrow, purse):
    ledger.post(postings=[move("a", escrow, purse, 5), move("b", purse, escrow, 5)], now=NOW)
    with pytest.raises(InsufficientFunds):
        ledger.post(postings=[move("c", purse, escrow, 5), move("d", escrow, purse, 5)], now=NOW)


def test_only_the_end_of_a_posting_counts(escrow, purse):
    lines = (Line(purse, -5), Line(purse, 8), Line(escrow, -3))
    ledger.post(postings=[Posting("a", "test", lines, NOW)], now=NOW)
    assert balance(purse) == 3


@pytest.mark.parametrize("amounts", [(1, -2), (0, 0), (1,), (), (2**62, -(2**62)), (True, -1), (1.0, -1.0)], ids=str)
def test_bad_lines_are_refused(escrow, purse, amounts):
    lines = tuple(Line(account, amount) for account, amount in zip((escrow, purse), amounts, strict=False))
    with pytest.raises(Unbalanced):
        ledger.post(postings=[Posting("a", "test", lines, NOW)], now=NOW)
    assert not Transaction.objects.exists()


def test_each_currency_sums_to_zero_by_itself(escrow, purse):
    dollars = accounts.platform_account("stripe_clearing", "USD")
    with pytest.raises(Unbalanced):
        ledger.post(postings=[Posting("a", "test", (Line(dollars, -70), Line(purse, 70)), NOW)], now=NOW)


def test_an_unknown_account_is_refused(purse):
    with pytest.raises(Unbalanced, match="does not exist"):
        ledger.post(postings=[move("a", 999_999, purse, 1)], now=NOW)


def test_entries_keep_the_running_balance(escrow, purse):
    ledger.post(postings=[move(str(n), escrow, purse, n) for n in (1, 2, 3)], now=NOW)
    assert list(Entry.objects.filter(account_id=purse).order_by("id").values_list("balance_after", flat=True)) == [
        1,
        3,
        6,
    ]


def test_a_thousand_postings_take_a_handful_of_queries(escrow, purse, django_assert_max_num_queries, settings):
    from django.db import connection

    postings = [move(str(n), escrow, purse, 1) for n in range(1000)]
    if connection.vendor == "postgresql":
        with django_assert_max_num_queries(3):
            ledger.post(postings=postings, now=NOW)
    else:
        ledger.post(postings=postings, now=NOW)
    assert balance(purse) == 1000


def test_reverse_mirrors_once(cast, escrow, purse):
    [pk] = ledger.post(postings=[move("a", escrow, purse, 70)], now=NOW)
    ids = {ledger.reverse(transaction_id=pk, key="undo", by=cast.staff, memo="wrong person") for _ in range(2)}
    assert (balance(escrow), balance(purse)) == (0, 0)
    reversal = Transaction.objects.get(pk=ids.pop())
    assert (reversal.reverses_id, reversal.by, reversal.memo) == (pk, cast.staff, "wrong person")
    assert AuditEvent.objects.filter(action="transaction_reversed").count() == 1


def test_nothing_is_reversed_twice(cast, escrow, purse):
    [pk] = ledger.post(
        postings=[
            move("a", escrow, purse, 70),
        ],
        now=NOW,
    )
    ledger.reverse(transaction_id=pk, key="undo", by=cast.staff, memo="")
    with pytest.raises(Conflict, match="already reversed"):
        ledger.reverse(transaction_id=pk, key="undo again", by=cast.staff, memo="")


def test_spent_money_cannot_be_reversed(cast, escrow, purse):
    [pk, _] = ledger.post(postings=[move("a", escrow, purse, 70), move("b", purse, escrow, 1)], now=NOW)
    with pytest.raises(InsufficientFunds):
        ledger.reverse(transaction_id=pk, key="undo", by=cast.staff, memo="")


def test_reverse_of_nothing(db):
    with pytest.raises(NotFound):
        ledger.reverse(transaction_id=1, key="undo", by=None, memo="")


def test_unknown_kinds_of_account_are_a_mistake(cast):
    with pytest.raises(ValueError, match="no 'avialable' account"):
        accounts.user_account(cast.owner.pk, "avialable")
    with pytest.raises(ValueError, match="no 'pocket' account"):
        accounts.platform_account("pocket")
    assert accounts.platform_account("sale_inventory:1") == accounts.platform_account("sale_inventory:1")
