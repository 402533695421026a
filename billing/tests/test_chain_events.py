"""Events read from the chain: booked once when final, undone when even that vanishes, whatever order things happen in."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.chain.errors import ChainError, LogsMissing
from billing.chain.fake import unavailable
from billing.models import ChainEvent, Transaction
from billing.services import accounts, chain_accounts, chain_events, deposits, ledger
from billing.tests.settling import NTC, World, balance, fake_world
from interchain_site.core.models import StaffAlert, User

FAULTS = ("logs", "receipt", "block", "head", "read")
STEPS = st.one_of(
    st.tuples(st.just("deposit"), st.integers(1, 9)),
    st.tuples(st.just("mine"), st.integers(1, 4)),
    st.tuples(st.just("reorganise"), st.integers(1, 6)),
    st.tuples(st.just("look"), st.just(0)),
    st.tuples(st.just("fault"), st.integers(0, len(FAULTS) - 1)),
    st.tuples(st.just("spend"), st.integers(1, 9)),
)


def deposit(world: World, user: User, ntc: int) -> str:
    call = world.deployment.contract.deposit(reference=chain_accounts.reference_of(user=user), amount=ntc * NTC)
    return str(world.node.call_directly(call))


def look(world: World) -> None:
    chain_events.watch(chain=world.chain, now=world.now)


def there(world: World, user: User) -> int:
    return int(world.node.settlement.deposited.get(chain_accounts.reference_of(user=user), 0))


def test_nothing_is_booked_before_it_is_deep_enough(fake: World, cast, settings):
    settings.ETHEREUM_CONFIRMATIONS = 3
    deposit(fake, cast.buyer, 5)
    look(fake)
    assert ChainEvent.objects.get(name="Deposited", state="seen").values["amount"] == str(5 * NTC)
    fake.node.mine(2)
    look(fake)
    assert balance("available", cast.buyer) == 5 * NTC
    look(fake)
    assert balance("available", cast.buyer) == 5 * NTC


def test_a_reorganisation_undoes_what_was_not_final(fake: World, cast, settings):
    settings.ETHEREUM_CONFIRMATIONS = 3
    deposit(fake, cast.buyer, 5)
    look(fake)
    fake.node.reorganise(1)
    fake.node.mine(5)
    look(fake)
    assert ChainEvent.objects.get(values__amount=str(5 * NTC)).state == "vanished"
    assert balance("available", cast.buyer) == 0
    assert not StaffAlert.objects.exists()


def test_what_was_final_and_vanished_is_reversed_and_said(fake: World, cast):
    deposit(fake, cast.buyer, 5)
    look(fake)
    before = Transaction.objects.count()
    fake.node.reorganise(1)
    look(fake)
    event = ChainEvent.objects.get(values__amount=str(5 * NTC))
    assert (event.state, event.booked_at, event.unbooked) == ("vanished", None, 1)
    assert balance("available", cast.buyer) == 0
    assert Transaction.objects.count() == before + 1
    assert StaffAlert.objects.standing().filter(code="final_event_vanished").exists()


def test_the_same_event_in_another_block_stays_booked(fake: World, cast):
    world = fake
    world.earn(cast.owner, 5)
    wallet = world.link(cast.owner)
    world.settle()
    world.claim(wallet)
    before = Transaction.objects.count()
    booked = ChainEvent.objects.get(name="Deposited")
    world.node.reorganise(1)  # the claim goes back to the pool and is mined again
    look(world)
    assert ChainEvent.objects.filter(name="Claimed").values_list("state", flat=True).get() == "final"
    assert Transaction.objects.count() == before
    assert ChainEvent.objects.get(pk=booked.pk).block_hash == booked.block_hash


def test_one_that_cannot_be_booked_does_not_stop_the_others(fake: World, cast, monkeypatch):
    def fail(event: ChainEvent, **_: Any) -> None:
        if event.values["amount"] == str(5 * NTC):
            raise ValueError("a bug")
        booked(event, now=fake.now)

    booked = deposits.book
    monkeypatch.setattr(deposits, "book", fail)
    deposit(fake, cast.buyer, 5)
    deposit(fake, cast.owner, 7)
    look(fake)
    assert (balance("available", cast.buyer), balance("available", cast.owner)) == (0, 7 * NTC)
    alert = StaffAlert.objects.standing().get(code="chain_event_waits")
    assert "fault of the program (ValueError)" in alert.message
    monkeypatch.undo()
    look(fake)
    assert balance("available", cast.buyer) == 5 * NTC
    assert not StaffAlert.objects.standing().exists()


@pytest.mark.parametrize("again", [False, True])
def test_staff_are_not_told_for_ever_of_an_event_that_vanished(fake: World, cast, monkeypatch, again):
    def fail(event: ChainEvent, **_: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(deposits, "book", fail)
    deposit(fake, cast.buyer, 5)
    look(fake)
    assert StaffAlert.objects.standing().filter(code="chain_event_waits").exists()
    if again:  # read again in its place, it is booked once the bug is mended
        monkeypatch.undo()
        ChainEvent.objects.filter(state="seen").update(error="")
    else:
        fake.node.reorganise(1, drop=True)
    look(fake)
    assert balance("available", cast.buyer) == (5 * NTC if again else 0)
    assert not StaffAlert.objects.standing().exists()


def test_a_missing_log_stops_booking_until_it_is_there(fake: World, cast):
    deposit(fake, cast.buyer, 5)
    kept, fake.node._state.logs = fake.node._state.logs, fake.node._state.logs[:-1]
    with pytest.raises(LogsMissing, match="deposits"):
        look(fake)
    fake.node._state.logs = kept
    look(fake)
    assert balance("available", cast.buyer) == 5 * NTC


class Rollback(Exception):
    pass


@pytest.mark.django_db
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=18), confirmations=st.integers(1, 4))
def test_whatever_happens_the_ledger_ends_with_what_the_chain_has(cast, chain_settings, request, steps, confirmations):
    try:
        with transaction.atomic():
            site = request.getfixturevalue("settings")
            site.ETHEREUM_CONFIRMATIONS = 1
            world = fake_world(site)
            world.node.mine(8)  # what the desk has is deeper than any reorganisation here
            site.ETHEREUM_CONFIRMATIONS, spent = confirmations, 0
            for name, number in steps:
                spent += _do(world, cast.buyer, name, number)
            world.node.break_next.clear()
            world.node.mine(6)
            look(world)
            has = balance("available", cast.buyer) + balance("shortfall", cast.buyer)
            assert has + spent == there(world, cast.buyer)
            assert -balance("escrow") == sum(world.node.settlement.deposited.values())
            assert not ChainEvent.objects.filter(state__in=["seen", "doubted"]).exists()
            raise Rollback
    except Rollback:
        pass


def _do(world: World, user: User, name: str, number: int) -> int:
    """Return what was spent."""
    match name:
        case "deposit":
            deposit(world, user, number)
        case "mine":
            world.node.mine(number)
        case "reorganise":
            world.node.reorganise(number)
        case "fault":
            world.node.break_next[FAULTS[number]] = unavailable
        case "look":
            with suppress(ChainError):
                look(world)
        case "spend" if balance("available", user) >= number * NTC:
            return _spend(world, user, number * NTC)
    return 0


def _spend(world: World, user: User, units: int) -> int:
    world.made += 1
    lines = (
        ledger.Line(accounts.user_account(user.pk, accounts.AVAILABLE), -units),
        ledger.Line(accounts.platform_account("commission"), units),
    )
    ledger.post(postings=[ledger.Posting(f"spent:{world.made}", "test", lines, world.now)], now=world.now)
    return units
