"""Withdrawals asked, confirmed, cancelled and settled by several processes at once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections

from billing.models import Withdrawal
from billing.services import confirmations, rounds, settlement, withdrawals
from billing.tests.settling import NTC, World, balance, fake_world
from billing.tests.withdrawing import ask, fund
from interchain_site.core.errors import DomainError
from interchain_site.testing.cast import make_cast

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="needs PostgreSQL: SQLite has one writer"),
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture
def world(transactional_db, settings, chain_settings) -> World:
    world = fake_world(settings)
    lock, send = threading.Lock(), world.node.send

    def one_at_a_time(raw: bytes) -> None:
        with lock:
            send(raw)

    world.node.send = one_at_a_time
    return world


def at_once(jobs: list[Callable[[], object]]) -> list[Exception]:
    """Run different things in threads that start together; returns what they raised."""
    raised: list[Exception] = []
    start = threading.Barrier(len(jobs))

    def run(job: Callable[[], object]) -> None:
        try:
            start.wait()
            job()
        except Exception as error:
            raised.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def confirmed(world: World, person: Any, ntc: int) -> Withdrawal:
    row = ask(world, person, ntc)
    confirmations.accept(subject=withdrawals.subject(row), user=person, by="test", now=world.now)
    return row


def test_the_same_money_leaves_once(world: World):
    person = make_cast().publisher
    fund(world, person, 100)
    rows = [confirmed(world, person, 60) for _ in range(4)]
    jobs = [
        lambda row=row: withdrawals.reserve(withdrawal_id=row.pk, by=person, now=world.now)  # type: ignore[misc]
        for row in rows
    ]
    raised = at_once(jobs)
    assert len(raised) == 3
    assert all(isinstance(error, DomainError) for error in raised)
    assert (balance("available", person), balance("withdrawing", person)) == (40 * NTC, 60 * NTC)


def test_cancelling_while_an_epoch_closes_happens_or_does_not(world: World):
    person = make_cast().publisher
    fund(world, person, 100)
    for number in itertools.count(1):
        row = confirmed(world, person, 10)
        withdrawals.reserve(withdrawal_id=row.pk, by=person, now=world.now)
        settlement.open_epoch(now=world.now)
        raised = at_once(
            [
                lambda row=row: withdrawals.cancel(withdrawal_id=row.pk, by=person, now=world.now),  # type: ignore[misc]
                lambda: settlement.close_epoch(now=world.now),
            ]
        )
        assert all(isinstance(error, DomainError) for error in raised)
        row.refresh_from_db()
        assert row.state in ("cancelled", "committed", "confirmed")
        for _ in range(5):
            world.round(later=61)
        kinds = ("available", "withdrawing", "settled")
        paid = sum(world.paid(wallet) for wallet in person.wallets.all())
        assert sum(balance(kind, person) for kind in kinds) + paid == 100 * NTC
        if number == 4:
            return


def test_overlapping_rounds_pay_many_once(world: World):
    cast = make_cast()
    people = [cast.publisher, cast.owner, cast.buyer]
    for person in people:
        fund(world, person, 50)
        row = confirmed(world, person, 20)
        withdrawals.reserve(withdrawal_id=row.pk, by=person, now=world.now)
    settlement.close_epoch(now=world.now)
    for _ in range(6):
        world.now = world.now.replace(microsecond=0)
        assert at_once([lambda: rounds.run(now=world.now, chain=world.chain)] * 3) == []
    assert {row.state for row in Withdrawal.objects.all()} == {"paid"}
    assert [world.paid(person.wallets.get()) for person in people] == [20 * NTC] * 3
    assert [balance("settled", person) for person in people] == [0, 0, 0]
