"""A guardian refuses an epoch: nobody loses earnings, nobody gets the refused root's money, settlement waits for staff."""

from __future__ import annotations

import pytest

from billing.models import Epoch
from billing.services import accounts, claims, ledger, settlement, vetoes
from billing.services.claims import NothingToClaim
from billing.tests.settling import NTC, World, balance
from interchain_site.core.errors import Conflict


@pytest.fixture
def delayed(fake: World) -> World:
    fake.node.settlement.claim_delay = 3600
    return fake


def veto(world: World, epoch: Epoch) -> None:
    world.as_account(1, world.deployment.contract.veto(epoch=epoch.sequence))
    for _ in range(3):
        world.round(later=1)
    epoch.refresh_from_db()


def review(world: World, cast) -> None:
    for epoch in Epoch.objects.filter(state="vetoed", reviewed_at=None):
        vetoes.resume(epoch_id=epoch.pk, by=cast.staff, now=world.now)


def test_earnings_go_back_and_settle_again_after_a_review(delayed: World, cast):
    wallet = delayed.link(cast.owner)
    delayed.earn(cast.owner, 5)
    epoch = delayed.settle()
    veto(delayed, epoch)
    assert epoch.state == "vetoed"
    assert (balance("settled", cast.owner), balance("earnings_available", cast.owner)) == (0, 5 * NTC)
    assert settlement.close_epoch(now=delayed.now) is None
    review(delayed, cast)
    again = delayed.settle()
    assert (again.sequence, again.cumulative_units) == (2, 5 * NTC)
    delayed.node.pass_time(3600)
    delayed.round()
    delayed.claim(wallet)
    assert delayed.paid(wallet) == 5 * NTC


def test_who_owes_by_then_repays_from_what_goes_back(delayed: World, cast):
    delayed.link(cast.owner)
    delayed.earn(cast.owner, 5)
    epoch = delayed.settle()
    lines = (
        ledger.Line(accounts.user_account(cast.owner.pk, accounts.SHORTFALL), -3 * NTC),
        ledger.Line(accounts.platform_account("commission"), 3 * NTC),
    )
    ledger.post(postings=[ledger.Posting("debt", "test", lines, delayed.now)], now=delayed.now)
    veto(delayed, epoch)
    kinds = ("settled", "earnings_available", "shortfall")
    assert [balance(kind, cast.owner) for kind in kinds] == [0, 2 * NTC, 0]


def test_nothing_of_a_vetoed_epoch_can_be_claimed(delayed: World, cast):
    wallet = delayed.link(cast.owner)
    delayed.earn(cast.owner, 5)
    veto(delayed, delayed.settle())
    with pytest.raises(NothingToClaim):
        claims.claim(wallet_id=wallet.pk, by=cast.owner, now=delayed.now)


def test_later_epochs_fall_with_it(delayed: World, cast):
    delayed.link(cast.owner)
    for ntc in (5, 2, 1):
        delayed.earn(cast.owner, ntc)
        delayed.settle()
    veto(delayed, Epoch.objects.get(sequence=2))
    assert list(Epoch.objects.order_by("sequence").values_list("state", flat=True)) == [
        "mined",
        "vetoed",
        "vetoed",
        "open",
    ]
    assert (balance("settled", cast.owner), balance("earnings_available", cast.owner)) == (5 * NTC, 3 * NTC)
    review(delayed, cast)
    assert delayed.settle().cumulative_units == 8 * NTC


def test_an_epoch_computed_but_not_posted_is_computed_without_it(delayed: World, cast):
    delayed.link(cast.owner)
    delayed.earn(cast.owner, 5)
    first = delayed.settle()
    delayed.earn(cast.owner, 2)
    second = settlement.close_epoch(now=delayed.now)
    veto(delayed, first)
    second.refresh_from_db()
    assert (second.state, second.cumulative_units, second.earned_units) == ("closed", 2 * NTC, 2 * NTC)
    review(delayed, cast)
    for _ in range(3):
        delayed.round(later=1)
    assert delayed.node.settlement.epochs[2].payout_root == second.payout_root
    assert delayed.settle().cumulative_units == 7 * NTC


def test_amounts_a_later_standing_epoch_carries_stay_settled(delayed: World, cast):
    """The guardian was too late for one already on its way: its root holds the same amounts, so they stay committed."""
    delayed.link(cast.owner)
    delayed.earn(cast.owner, 5)
    first = delayed.settle()
    delayed.earn(cast.owner, 2)
    second = settlement.close_epoch(now=delayed.now)
    delayed.automine(False)
    settlement.post_epoch(epoch_id=second.pk, chain=delayed.chain, now=delayed.now)
    delayed.node.call_directly(delayed.deployment.contract.veto(epoch=1))
    delayed.round()
    first.refresh_from_db()
    assert first.state == "mined"  # too early to say
    delayed.node.mine()
    for _ in range(3):
        delayed.round(later=1)
    first.refresh_from_db()
    assert first.state == "vetoed"
    assert balance("settled", cast.owner) == 7 * NTC


def test_a_review_happens_once(delayed: World, cast):
    delayed.link(cast.owner)
    delayed.earn(cast.owner, 5)
    epoch = delayed.settle()
    with pytest.raises(Conflict):
        vetoes.resume(epoch_id=epoch.pk, by=cast.staff, now=delayed.now)
    veto(delayed, epoch)
    vetoes.resume(epoch_id=epoch.pk, by=cast.staff, now=delayed.now)
    with pytest.raises(Conflict):
        vetoes.resume(epoch_id=epoch.pk, by=cast.staff, now=delayed.now)
