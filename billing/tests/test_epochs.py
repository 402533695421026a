"""What goes into an epoch, and when it closes."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction

from billing import settlement_queries as queries
from billing.chain.merkle import MerkleTree, payout_leaf, statement_leaf
from billing.chain.states import EPOCH_MOVES, EpochState, transition
from billing.chain.types import ZERO_HASH
from billing.models import Epoch, PayoutLeaf, UsageStatement
from billing.services import accounts, ledger, settlement
from billing.tests.settling import NTC, World, balance
from interchain_site.core.errors import Conflict


def test_only_what_is_past_its_hold_enters(fake: World, cast):
    fake.link(cast.owner)
    fake.earn(cast.owner, 5)
    lines = (
        ledger.Line(accounts.platform_account("desk_inventory"), -3 * NTC),
        ledger.Line(accounts.user_account(cast.owner.pk, accounts.EARNINGS_HELD), 3 * NTC),
    )
    ledger.post(postings=[ledger.Posting("held", "test", lines, fake.now)], now=fake.now)
    assert fake.settle().earned_units == 5 * NTC
    assert balance("earnings_held", cast.owner) == 3 * NTC


def test_owners_without_a_wallet_wait(fake: World, cast):
    fake.earn(cast.owner, 5)
    assert settlement.close_epoch(now=fake.now) is None
    fake.link(cast.owner)
    assert fake.settle().earned_units == 5 * NTC


def test_nothing_earned_and_nothing_used_closes_nothing(fake: World, cast):
    fake.link(cast.owner)
    assert settlement.close_epoch(now=fake.now) is None
    assert Epoch.objects.get().state == "open"


def test_no_more_is_settled_than_the_contract_holds(fake: World, cast):
    """`settle` would revert, and every later epoch would wait behind it."""
    fake.link(cast.owner)
    fake.earn(cast.owner, 5)
    held = queries.escrow_units()
    gone = (
        ledger.Line(accounts.platform_account("escrow"), held - 4 * NTC),
        ledger.Line(accounts.platform_account("desk_inventory"), 5 * NTC - held),
        ledger.Line(accounts.user_account(cast.publisher.pk, accounts.SHORTFALL), -NTC),
    )
    ledger.post(postings=[ledger.Posting("gone", "test", gone, fake.now)], now=fake.now)
    with pytest.raises(settlement.EscrowTooSmall, match="1000000000 base units"):
        settlement.close_epoch(now=fake.now)
    assert not PayoutLeaf.objects.exists()
    assert balance("earnings_available", cast.owner) == 5 * NTC


def test_statements_alone_are_settled_too(fake: World):
    fake.use(a=1)
    fake.use(a=2)
    epoch = fake.settle()
    hashes = UsageStatement.objects.values_list("sha256", flat=True)
    assert epoch.payout_root == ZERO_HASH
    assert epoch.usage_root == MerkleTree([statement_leaf(sha256) for sha256 in hashes]).root
    assert epoch.statements_count == 2


def test_a_statement_belongs_to_one_epoch(fake: World):
    fake.use(a=1)
    first = fake.settle()
    fake.use(a=2)
    second = fake.settle()
    assert [first.statements.count(), second.statements.count()] == [1, 1]


def test_the_root_is_the_one_of_the_cumulative_leaves(fake: World, cast):
    owner, publisher = fake.link(cast.owner), fake.link(cast.publisher)
    fake.earn(cast.owner, 5)
    fake.earn(cast.publisher, 2)
    first = fake.settle()
    fake.earn(cast.owner, 1)
    second = fake.settle()

    def root(mine: int, theirs: int) -> str:
        return MerkleTree([payout_leaf(owner.address, mine * NTC), payout_leaf(publisher.address, theirs * NTC)]).root

    assert (first.payout_root, second.payout_root) == (root(5, 2), root(6, 2))
    assert queries.payout_tree(1).root == first.payout_root  # older trees can still be built
    assert PayoutLeaf.objects.filter(epoch=second).count() == 1  # only what grew is written


def test_an_epoch_closes_when_it_has_lasted_long_enough(fake: World, cast, settings):
    settings.EPOCH_SECONDS = 600
    fake.link(cast.owner)
    fake.round()
    fake.earn(cast.owner, 5)
    fake.round(later=599)
    assert Epoch.objects.get().state == "open"
    fake.round(later=1)
    assert Epoch.objects.exclude(state="open").count() == 1


def test_the_next_one_waits_until_the_last_is_in_a_block(fake: World, cast):
    fake.automine(False)
    fake.link(cast.owner)
    fake.earn(cast.owner, 5)
    settlement.close_epoch(now=fake.now)
    fake.earn(cast.owner, 1)
    assert settlement.close_epoch(now=fake.now) is None
    fake.round()
    assert settlement.close_epoch(now=fake.now) is None
    fake.node.mine()
    fake.round()
    assert settlement.close_epoch(now=fake.now).sequence == 2


def test_an_epoch_is_final_only_after_the_guardians_delay(fake: World, cast):
    fake.node.settlement.claim_delay = 3600
    fake.link(cast.owner)
    fake.earn(cast.owner, 5)
    epoch = fake.settle()
    assert epoch.state == "mined"
    fake.node.pass_time(3600)
    fake.round()
    epoch.refresh_from_db()
    assert epoch.state == "final"


def test_only_moves_of_the_table_are_made(fake: World):
    epoch = settlement.open_epoch(now=fake.now)
    for state in set(EpochState) - {EpochState.CLOSED}:
        with pytest.raises(Conflict):
            transition(epoch, EPOCH_MOVES, state)


def test_a_row_somebody_else_moved_is_left_alone(fake: World):
    epoch = settlement.open_epoch(now=fake.now)
    mine = Epoch.objects.get(pk=epoch.pk)
    closed = {"closed_at": fake.now, "payout_root": ZERO_HASH, "usage_root": ZERO_HASH}
    transition(epoch, EPOCH_MOVES, EpochState.CLOSED, **closed)
    with pytest.raises(Conflict):
        transition(mine, EPOCH_MOVES, EpochState.CLOSED, **closed)


def test_the_database_holds_what_the_services_promise(fake: World):
    epoch = settlement.open_epoch(now=fake.now)
    for broken in (
        {"state": "closed"},
        {"state": "posted", "closed_at": fake.now, "payout_root": "x", "usage_root": "x"},
        {"earned_units": 5, "cumulative_units": 4},
        {"earned_units": -1},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            Epoch.objects.filter(pk=epoch.pk).update(**broken)
    with pytest.raises(IntegrityError), transaction.atomic():
        Epoch.objects.create(sequence=2, opened_at=fake.now)


def test_closing_takes_the_same_number_of_queries_for_any_number_of_owners(
    fake: World, cast, django_assert_max_num_queries
):
    for person in (cast.owner, cast.publisher, cast.buyer, cast.staff, cast.stranger):
        fake.link(person)
        fake.earn(person, 1)
    with django_assert_max_num_queries(52):
        assert settlement.close_epoch(now=fake.now).accounts == 5
