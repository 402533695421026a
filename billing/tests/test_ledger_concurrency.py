"""Many workers at once on PostgreSQL: no deadlock, no lost cent, no key twice, "busy" after three seconds."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.db.models import Sum

from billing.errors import InsufficientFunds, LedgerBusy
from billing.models import Account, Entry, HeldEarning, Transaction
from billing.services import accounts, charges, ledger
from billing.services.charges import UsageCharge
from billing.services.ledger import Line, Posting
from interchain_site.testing.cast import make_person

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time; PostgreSQL only"),
]
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def in_threads(jobs):
    """Run the jobs at the same moment, each with its own connection; returns their results or errors."""
    barrier = threading.Barrier(len(jobs))

    def run(job):
        try:
            barrier.wait()
            return job()
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


@pytest.fixture
def purses():
    people = [make_person(f"p{n}") for n in range(6)]
    found = [accounts.user_account(person.pk, "available") for person in people]
    escrow = accounts.platform_account("escrow")
    start = [Posting(f"start:{pk}", "test", (Line(escrow, -1000), Line(pk, 1000)), NOW) for pk in found]
    ledger.post(postings=start, now=NOW)
    return found


def assert_sound():
    sums = dict(Entry.objects.values_list("account_id").annotate(Sum("amount")).order_by())
    for account in Account.objects.all():
        assert account.balance == sums.get(account.pk, 0)
        assert account.balance >= 0 or account.may_be_negative
        chain = Entry.objects.filter(account=account).order_by("id").values_list("amount", "balance_after")
        running = 0
        for amount, after in chain:
            running += amount
            assert after == running
    assert Entry.objects.aggregate(total=Sum("amount"))["total"] == 0


def test_batches_over_the_same_accounts_in_every_order_never_deadlock(purses):
    def worker(number):
        chance = random.Random(number)

        def job():
            for turn in range(10):
                batch = []
                for place in range(20):
                    source, target = chance.sample(purses, 2)
                    lines = (Line(source, -1), Line(target, 1))
                    batch.append(Posting(f"{number}:{turn}:{place}", "test", lines, NOW))
                ledger.post(postings=batch, now=NOW)
            return "done"

        return job

    assert in_threads([worker(n) for n in range(6)]) == ["done"] * 6
    assert Account.objects.filter(pk__in=purses).aggregate(total=Sum("balance"))["total"] == 6000
    assert_sound()


def test_the_same_key_from_everywhere_posts_once(purses):
    posting = Posting("once", "test", (Line(purses[0], -10), Line(purses[1], 10)), NOW)
    results = in_threads([lambda: ledger.post(postings=[posting], now=NOW)] * 8)
    assert len({pk for [pk] in results}) == 1
    assert Account.objects.get(pk=purses[1]).balance == 1010
    assert_sound()


def test_the_last_money_is_spent_once(purses):
    def spend(number):
        posting = Posting(f"s{number}", "test", (Line(purses[0], -300), Line(purses[1], 300)), NOW)
        return lambda: ledger.post(postings=[posting], now=NOW)

    results = in_threads([spend(n) for n in range(8)])
    assert sum(isinstance(result, InsufficientFunds) for result in results) == 5
    assert Account.objects.get(pk=purses[0]).balance == 100
    assert_sound()


def test_a_held_account_answers_busy_after_three_seconds(purses):
    holding, release = threading.Event(), threading.Event()

    def hold():
        try:
            with transaction.atomic():
                ledger.lock_accounts({purses[0]})
                holding.set()
                release.wait(10)
        finally:
            connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    started = time.monotonic()
    posting = Posting("k", "test", (Line(purses[0], -1), Line(purses[1], 1)), NOW)
    with pytest.raises(LedgerBusy) as error:
        ledger.post(postings=[posting], now=NOW)
    waited = time.monotonic() - started
    release.set()
    thread.join()
    assert 2.5 < waited < 4.5
    assert not error.value.permanent
    assert len(ledger.post(postings=[posting], now=NOW)) == 1  # and works once the lock is gone
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone()[0] == "0"


def test_crossed_locks_of_larger_transactions_are_busy_not_a_hang(purses):
    """Two callers that each post twice in opposite order: the database picks a victim, who hears "busy"."""
    both = threading.Barrier(2)

    def crossed(first, second, number):
        def job():
            with transaction.atomic():
                ledger.lock_accounts({first})
                both.wait()
                posting = Posting(f"x{number}", "test", (Line(first, -1), Line(second, 1)), NOW)
                return ledger.post(postings=[posting], now=NOW)

        return job

    results = in_threads([crossed(purses[0], purses[1], 1), crossed(purses[1], purses[0], 2)])
    assert any(isinstance(result, LedgerBusy) for result in results)
    assert all(isinstance(result, LedgerBusy | list) for result in results)
    assert_sound()


def test_charges_and_releases_at_the_same_time(purses):
    publisher, owner = make_person("pub"), make_person("own")
    escrow, purse = accounts.platform_account("escrow"), accounts.user_account(publisher.pk, "available")
    ledger.post(postings=[Posting("fund", "test", (Line(escrow, -5000), Line(purse, 5000)), NOW)], now=NOW)

    def charge(worker):
        def job():
            for turn in range(20):
                at = NOW - timedelta(days=2) + timedelta(seconds=turn % 5)
                # Every worker repeats the keys of its neighbour: half of the charges are duplicates.
                batch = [UsageCharge(f"c:{worker // 2}:{turn}", publisher.pk, owner.pk, 10, 1, at, "lease:1")]
                charges.charge_usage(charges=batch, now=NOW)
            return "done"

        return job

    def release():
        for _ in range(40):
            charges.release_matured_earnings(now=NOW)
        return "done"

    assert in_threads([charge(n) for n in range(4)] + [release] * 2) == ["done"] * 6
    charges.release_matured_earnings(now=NOW)
    earned = Account.objects.get(user=owner, kind="earnings_available")
    assert earned.balance == 2 * 20 * 10
    assert Account.objects.get(pk=purse).balance == 5000 - 2 * 20 * 11
    assert not HeldEarning.objects.exists()
    assert Transaction.objects.filter(kind="usage_charge").count() == 40
    assert_sound()


def test_an_account_is_created_once(purses):
    person = make_person("new")
    ids = in_threads([lambda: accounts.user_account(person.pk, "frozen")] * 6)
    assert len(set(ids)) == 1
    ids = in_threads([lambda: accounts.platform_account("forfeited")] * 6)
    assert len(set(ids)) == 1
