"""A vetoed epoch's usage root proves nothing, so its statements are settled again: each bill can be proven in the end."""

from __future__ import annotations

import pytest

from billing.models import Epoch, UsageStatement
from billing.services import bill_proofs, epoch_confirmation, settlement, statements, vetoes
from billing.tests.settling import World


@pytest.fixture
def delayed(fake: World) -> World:
    fake.node.settlement.claim_delay = 3600
    return fake


def use(world: World, key: str, units: int) -> None:
    draft = statements.StatementDraft(key, {"key": key}, meters=(units, 0, 0, 0, 0))
    statements.record_statements(drafts=[draft], now=world.now)


def veto(world: World, epoch: Epoch, cast) -> None:
    world.as_account(1, world.deployment.contract.veto(epoch=epoch.sequence))
    for _ in range(3):
        world.round(later=1)
    for vetoed in Epoch.objects.filter(state="vetoed", reviewed_at=None):
        vetoes.resume(epoch_id=vetoed.pk, by=cast.staff, now=world.now)


def test_statements_go_into_the_next_epoch_and_are_counted_once(delayed, cast):
    use(delayed, "first", 5)
    first = delayed.settle()
    use(delayed, "second", 7)
    second = delayed.settle()
    assert (first.meters[0], second.meters[0]) == (5, 12)
    veto(delayed, second, cast)
    assert UsageStatement.objects.get(key="second").epoch is None
    use(delayed, "third", 1)
    third = delayed.settle()
    assert third.meters[0] == 13
    proof = bill_proofs.of_statement("second")
    assert proof.epoch["number"] == third.sequence == 3
    assert bill_proofs.of_statement("first").epoch["number"] == 1


def test_an_epoch_computed_meanwhile_counts_without_them(delayed, cast):
    use(delayed, "first", 5)
    first = delayed.settle()
    use(delayed, "second", 7)
    closed = settlement.close_epoch(now=delayed.now)
    assert closed.meters[0] == 12
    delayed.as_account(1, delayed.deployment.contract.veto(epoch=first.sequence))
    for _ in range(2):
        epoch_confirmation.confirm(chain=delayed.chain, now=delayed.now)
    first.refresh_from_db()
    closed.refresh_from_db()
    assert (first.state, closed.meters[0]) == ("vetoed", 7)
