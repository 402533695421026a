"""Several chain workers at once: a mistake in the set-up must not cost money."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection, connections

from billing.chain import transactions
from billing.chain.contracts import Totals
from billing.models import ChainTransaction, Claim
from billing.services import claims, rounds, settlement
from billing.tests.settling import NTC, World, balance, fake_world
from interchain_site.core.errors import Conflict, DomainError
from interchain_site.testing.cast import make_cast

WORKERS = 4

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


def at_once(work: Callable[[], object]) -> list[Exception]:
    """Run the same thing in several threads; returns what they raised."""
    raised: list[Exception] = []
    start = threading.Barrier(WORKERS)

    def run() -> None:
        try:
            start.wait()
            work()
        except Exception as error:
            raised.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_overlapping_rounds_settle_and_pay_once(world: World):
    owner = make_cast().owner
    wallet = world.link(owner)
    for ntc in range(1, 5):
        world.earn(owner, ntc)
        world.round(later=0)  # opens the first epoch
        world.now = world.now.replace(year=world.now.year + 1)
        for _ in range(4):
            assert at_once(lambda: rounds.run(now=world.now, chain=world.chain)) == []
    claims.claim(wallet_id=wallet.pk, by=owner, now=world.now)
    for _ in range(4):
        assert at_once(lambda: rounds.run(now=world.now, chain=world.chain)) == []
    assert world.times_settled() == [1, 2, 3, 4]
    assert world.paid(wallet) == 10 * NTC
    assert balance("settled", owner) == 0
    nonces = list(ChainTransaction.objects.order_by("nonce").values_list("nonce", flat=True))
    assert nonces == list(range(5))


def test_an_epoch_is_closed_once(world: World):
    owner = make_cast().owner
    world.link(owner)
    world.earn(owner, 5)
    settlement.open_epoch(now=world.now)
    raised = at_once(lambda: settlement.close_epoch(now=world.now))
    assert all(isinstance(error, DomainError) for error in raised)
    assert (balance("settled", owner), balance("earnings_available", owner)) == (5 * NTC, 0)


def test_a_claim_is_made_once(world: World):
    owner = make_cast().owner
    wallet = world.link(owner)
    world.earn(owner, 5)
    world.settle()
    raised = at_once(lambda: claims.claim(wallet_id=wallet.pk, by=owner, now=world.now))
    assert raised == []
    assert Claim.objects.count() == 1


def test_a_key_gets_one_nonce(world: World):
    call = world.deployment.contract.settle(
        epoch=1, payout_root="0x" + "0" * 64, usage_root="0x" + "0" * 64, totals=Totals(0, 0, 0)
    )
    plan = transactions.plan(call=call, chain=world.chain)
    raised = at_once(lambda: transactions.build(key="one", plan=plan, now=world.now))
    assert all(isinstance(error, Conflict) for error in raised)
    assert ChainTransaction.objects.get().nonce == 0


def test_a_person_has_one_active_wallet(world: World):
    owner = make_cast().owner
    raised = at_once(lambda: world.link(owner))
    assert raised == []
    assert owner.wallets.filter(active=True).count() == 1
    assert owner.wallets.count() == WORKERS
