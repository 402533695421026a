"""The whole path: earned, closed, posted, mined, final, claimed, paid."""

from __future__ import annotations

import pytest

from billing.chain.errors import Reverted
from billing.models import ChainTransaction, Claim
from billing.services import claims, settlement
from billing.services.claims import NothingToClaim
from billing.tests.settling import NTC, World, balance
from interchain_site.core.errors import NotFound


def test_an_owner_is_paid_what_they_earned(world: World, cast):
    wallet = world.link(cast.owner)
    world.earn(cast.owner, 5)
    world.use(lease="one")
    epoch = world.settle()
    assert (epoch.state, epoch.sequence, epoch.earned_units, epoch.statements_count) == ("final", 1, 5 * NTC, 1)
    assert (balance("earnings_available", cast.owner), balance("settled", cast.owner)) == (0, 5 * NTC)
    escrow = balance("escrow")
    claim = world.claim(wallet)
    assert (claim.state, claim.units) == ("final", 5 * NTC)
    assert world.paid(wallet) == 5 * NTC
    assert balance("settled", cast.owner) == 0
    assert balance("escrow") == escrow + 5 * NTC


def test_the_next_epoch_pays_only_what_is_new(world: World, cast):
    wallet = world.link(cast.owner)
    world.earn(cast.owner, 5)
    world.settle()
    world.claim(wallet)
    world.earn(cast.owner, 2)
    assert world.settle().cumulative_units == 7 * NTC
    assert world.claim(wallet).units == 2 * NTC
    assert world.paid(wallet) == 7 * NTC


def test_several_epochs_can_be_claimed_at_once(world: World, cast):
    wallet = world.link(cast.owner)
    for ntc in (5, 2, 4):
        world.earn(cast.owner, ntc)
        world.settle()
    assert world.claim(wallet).units == 11 * NTC
    assert world.times_settled() == [1, 2, 3]


def test_many_owners_one_transaction(world: World, cast):
    people = [cast.owner, cast.publisher, cast.buyer]
    linked = [world.link(person) for person in people]
    for ntc, person in enumerate(people, start=1):
        world.earn(person, ntc)
    epoch = world.settle()
    assert (epoch.accounts, epoch.cumulative_units) == (3, 6 * NTC)
    for wallet in linked:
        world.claim(wallet)
    assert [world.paid(wallet) for wallet in linked] == [NTC, 2 * NTC, 3 * NTC]


def test_somebody_else_may_claim_for_the_owner_and_the_ledger_follows(world: World, cast):
    wallet = world.link(cast.owner)
    world.earn(cast.owner, 5)
    epoch = world.settle()
    world.claim_by_stranger(wallet, epoch, 5 * NTC)
    world.round(later=1)
    assert world.paid(wallet) == 5 * NTC
    assert balance("settled", cast.owner) == 0
    found = Claim.objects.get()
    assert (found.state, found.units, found.requested_by) == ("final", 5 * NTC, None)
    with pytest.raises(NothingToClaim):
        claims.claim(wallet_id=wallet.pk, by=cast.owner, now=world.now)


def test_a_claim_somebody_else_made_meanwhile_ends_ours(world: World, cast):
    wallet = world.link(cast.owner)
    world.earn(cast.owner, 5)
    epoch = world.settle()
    ours = claims.claim(wallet_id=wallet.pk, by=cast.owner, now=world.now)
    world.claim_by_stranger(wallet, epoch, 5 * NTC)
    for _ in range(3):
        world.round(later=1)
    ours.refresh_from_db()
    assert (ours.state, ours.units, ours.sending) == ("final", 5 * NTC, None)
    assert world.paid(wallet) == 5 * NTC
    assert balance("settled", cast.owner) == 0


def test_a_changed_wallet_gets_what_settles_after_it(world: World, cast):
    before = world.link(cast.owner)
    world.earn(cast.owner, 5)
    world.settle()
    after = world.link(cast.owner)
    world.earn(cast.owner, 3)
    world.settle()
    assert world.claim(after).units == 3 * NTC
    assert world.claim(before).units == 5 * NTC
    assert (world.paid(before), world.paid(after)) == (5 * NTC, 3 * NTC)
    assert balance("settled", cast.owner) == 0


def test_repeated_tasks_change_nothing(world: World, cast):
    wallet = world.link(cast.owner)
    world.earn(cast.owner, 5)
    epoch = world.settle()
    asked = [claims.claim(wallet_id=wallet.pk, by=cast.owner, now=world.now) for _ in range(3)]
    assert len({claim.pk for claim in asked}) == 1
    for _ in range(4):
        settlement.post_epoch(epoch_id=epoch.pk, chain=world.chain, now=world.now)
        claims.send_claim(claim_id=asked[0].pk, chain=world.chain, now=world.now)
        world.round(later=1)
    assert world.times_settled() == [1]
    assert world.paid(wallet) == 5 * NTC
    assert ChainTransaction.objects.filter(key__startswith="epoch:").count() == 1
    assert ChainTransaction.objects.filter(key__startswith="claim:").count() == 1


def test_nobody_claims_for_a_wallet_that_is_not_theirs(fake: World, cast):
    wallet = fake.link(cast.owner)
    fake.earn(cast.owner, 5)
    fake.settle()
    for person in (cast.publisher, cast.staff, cast.stranger):
        with pytest.raises(NotFound):
            claims.claim(wallet_id=wallet.pk, by=person, now=fake.now)


def test_nothing_can_be_claimed_before_its_epoch_is_final(fake: World, cast):
    wallet = fake.link(cast.owner)
    fake.earn(cast.owner, 5)
    fake.automine(False)
    settlement.close_epoch(now=fake.now)
    fake.round()
    with pytest.raises(NothingToClaim):
        claims.claim(wallet_id=wallet.pk, by=cast.owner, now=fake.now)


def test_a_claim_the_contract_refuses_fails_in_words_and_may_be_repeated(fake: World, cast):
    wallet = fake.link(cast.owner)
    fake.earn(cast.owner, 5)
    fake.settle()
    claim = claims.claim(wallet_id=wallet.pk, by=cast.owner, now=fake.now)

    def refuse() -> None:
        raise Reverted("SettlementInvalidProof")

    fake.node.break_next["estimate_gas"] = refuse
    fake.round()
    claim.refresh_from_db()
    assert claim.state == "failed"
    assert "SettlementInvalidProof" in claim.error
    assert fake.claim(wallet).state == "final"
    assert fake.paid(wallet) == 5 * NTC
