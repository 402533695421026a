"""Whatever happens in whatever order, what owners have, are owed and were paid is what they earned."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import settlement_queries as queries
from billing.chain.errors import ChainRefused, Reverted
from billing.chain.fake import unavailable
from billing.models import Epoch
from billing.services import claims, settlement, vetoes
from billing.services.claims import NothingToClaim
from billing.tests.settling import NTC, World, balance, fake_world

FAULTS = ("send", "after_send", "receipt", "head", "read", "logs", "estimate_gas", "transaction_count")
STEPS = st.one_of(
    st.tuples(st.just("earn"), st.integers(0, 1), st.integers(1, 9)),
    st.tuples(st.just("link"), st.integers(0, 1), st.just(0)),
    st.tuples(st.sampled_from(["close", "round", "round", "round", "mine", "pass", "review"]), st.just(0), st.just(0)),
    st.tuples(st.just("stuck"), st.just(0), st.just(0)),
    st.tuples(st.sampled_from(["claim", "stranger"]), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("veto"), st.integers(1, 5), st.just(0)),
    st.tuples(st.just("automine"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("fault"), st.integers(0, len(FAULTS) - 1), st.just(0)),
)


class Rollback(Exception):
    pass


def do(world: World, people: list[Any], staff: Any, earned: list[int], step: tuple[str, int, int]) -> None:
    name, number, ntc = step
    match name:
        case "earn":
            world.earn(people[number], ntc)
            earned[number] += ntc * NTC
        case "link":
            world.link(people[number])
        case "close":
            settlement.close_epoch(now=world.now)
        case "round":
            world.round(later=1)
        case "stuck":
            world.round(later=200)
        case "mine":
            world.node.mine()
        case "pass":
            world.node.pass_time(61)
        case "automine":
            world.automine(bool(number))
        case "fault":
            world.node.break_next[FAULTS[number]] = unavailable
        case "review":
            for epoch in Epoch.objects.filter(state="vetoed", reviewed_at=None):
                vetoes.resume(epoch_id=epoch.pk, by=staff, now=world.now)
        case "veto":
            world.node.call_directly(world.deployment.contract.veto(epoch=number))
        case "claim":
            for wallet in people[number].wallets.all():
                claims.claim(wallet_id=wallet.pk, by=people[number], now=world.now)
        case "stranger":
            epoch = queries.newest_final_epoch()
            for wallet_id, units in queries.cumulative_by_wallet(epoch.sequence).items() if epoch else ():
                wallet = people[number].wallets.filter(pk=wallet_id).first()
                if wallet:
                    world.claim_by_stranger(wallet, epoch, units)


def holds(world: World, people: list[Any], earned: list[int]) -> None:
    """Nothing is lost and nothing is doubled, at any moment."""
    for person, total in zip(people, earned, strict=True):
        paid = sum(world.paid(wallet) for wallet in person.wallets.all())
        booked = sum(queries.paid_by_wallet([wallet.pk for wallet in person.wallets.all()]).values())
        kept = balance("earnings_available", person) + balance("settled", person)
        assert kept + booked == total
        assert booked <= paid <= total
    assert balance("escrow") + 1_000_000 * NTC == sum(
        queries.paid_by_wallet([wallet.pk for person in people for wallet in person.wallets.all()]).values()
    )


@pytest.mark.slow
@pytest.mark.django_db
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=45))
def test_owners_have_what_they_earned(cast, chain_settings, request, steps):
    try:
        with transaction.atomic():
            world = fake_world(request.getfixturevalue("settings"))
            world.node.settlement.claim_delay = 60
            people, earned = [cast.owner, cast.publisher], [0, 0]
            step_done = partial(do, world, people, cast.staff, earned)
            for step in steps:
                with suppress(NothingToClaim, Reverted, ChainRefused):
                    step_done(step)
                holds(world, people, earned)
            _comes_to_rest(world, people, cast.staff, earned)
            raise Rollback
    except Rollback:
        pass


def _comes_to_rest(world: World, people: list[Any], staff: Any, earned: list[int]) -> None:
    """Left alone, with a node that works, everybody gets everything."""
    world.automine(True)
    world.node.break_next.clear()
    for person in people:
        world.link(person)
    for _ in range(4):
        world.node.mine()
        world.node.pass_time(61)
        for _ in range(4):
            world.round(later=61)
        do(world, people, staff, earned, ("review", 0, 0))
        settlement.close_epoch(now=world.now)
    for person in people:
        for wallet in person.wallets.all():
            with suppress(NothingToClaim):
                claims.claim(wallet_id=wallet.pk, by=person, now=world.now)
    for _ in range(4):
        world.round(later=61)
    for person, total in zip(people, earned, strict=True):
        assert sum(world.paid(wallet) for wallet in person.wallets.all()) == total
        assert balance("settled", person) == 0
    holds(world, people, earned)
