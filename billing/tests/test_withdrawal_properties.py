"""Withdrawals, earnings, claims and vetoes in any order: nothing is lost, nothing is paid twice, what is owed only grows."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import settlement_queries as queries
from billing.chain.errors import ChainRefused, ChainUnavailable, Reverted
from billing.chain.fake import unavailable
from billing.chain.states import ClaimState, EpochState, WithdrawalState
from billing.models import Claim, Epoch, Withdrawal
from billing.services import accounts, claims, confirmations, settlement, vetoes, wallets, withdrawals
from billing.services.claims import NothingToClaim
from billing.services.withdrawals import WithdrawalRefused
from billing.tests.settling import NTC, World, balance, fake_world, new_address
from billing.tests.withdrawing import fund
from interchain_site.core.errors import Conflict

KINDS = (accounts.AVAILABLE, accounts.WITHDRAWING, accounts.EARNINGS_AVAILABLE, accounts.SETTLED)
FAULTS = ("send", "after_send", "receipt", "head", "read", "estimate_gas")
WHO = st.integers(0, 1)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["fund", "earn"]), WHO, st.integers(1, 9)),
    st.tuples(
        st.sampled_from(["withdraw", "withdraw", "cancel", "claim", "stranger", "relink"]), WHO, st.integers(1, 9)
    ),
    st.tuples(
        st.sampled_from(["close", "close", "round", "round", "round", "mine", "pass", "review"]), WHO, st.just(0)
    ),
    st.tuples(st.just("veto"), WHO, st.integers(1, 5)),
    st.tuples(st.just("fault"), WHO, st.integers(0, len(FAULTS) - 1)),
)
REFUSALS = (NothingToClaim, WithdrawalRefused, Reverted, ChainRefused, ChainUnavailable, Conflict)


class Rollback(Exception):
    pass


class Scene:
    """Two people, each with a linked wallet that withdrawals also go to, and one more address."""

    def __init__(self, world: World, people: list[Any], staff: Any) -> None:
        self.world, self.people, self.staff = world, people, staff
        self.brought = [0, 0]
        self.trees: dict[int, dict[int, int]] = {}
        self.addresses = [new_address(), new_address()]
        for person in people:
            world.link(person)

    def do(self, name: str, who: int, number: int) -> None:
        world, person = self.world, self.people[who]
        match name:
            case "fund":
                fund(world, person, number)
                self.brought[who] += number * NTC
            case "earn":
                world.earn(person, number)
                self.brought[who] += number * NTC
            case "withdraw":
                self.withdraw(who, number)
            case "cancel":
                for row in Withdrawal.objects.filter(user=person, state__in=withdrawals.CANCELLABLE)[:1]:
                    withdrawals.cancel(withdrawal_id=row.pk, by=person, now=world.now)
            case "claim":
                for wallet in person.wallets.all():
                    with suppress(NothingToClaim):
                        claims.claim(wallet_id=wallet.pk, by=person, now=world.now)
            case "stranger":
                self.stranger(person)
            case "relink":
                world.link(person)
            case "close":
                settlement.close_epoch(now=world.now)
            case "round":
                world.round(later=61)
            case "mine":
                world.node.mine()
            case "pass":
                world.node.pass_time(61)
            case "review":
                for epoch in Epoch.objects.filter(state=EpochState.VETOED, reviewed_at=None):
                    vetoes.resume(epoch_id=epoch.pk, by=self.staff, now=world.now)
            case "veto":
                world.node.call_directly(world.deployment.contract.veto(epoch=number))
            case "fault":
                world.node.break_next[FAULTS[number]] = unavailable

    def withdraw(self, who: int, ntc: int) -> None:
        world, person = self.world, self.people[who]
        active = person.wallets.get(active=True)
        address = active.address if ntc % 2 else self.addresses[who]
        wallet = wallets.remember(address=address, by=person, now=world.now)
        row = withdrawals.ask(wallet_id=wallet.pk, units=ntc * NTC, by=person, now=world.now)
        confirmations.accept(subject=withdrawals.subject(row), user=person, by="test", now=world.now)
        withdrawals.reserve(withdrawal_id=row.pk, by=person, now=world.now)

    def stranger(self, person: Any) -> None:
        epoch = queries.newest_final_epoch()
        for wallet_id, units in queries.cumulative_by_wallet(epoch.sequence).items() if epoch else ():
            wallet = person.wallets.filter(pk=wallet_id).first()
            if wallet is not None:
                self.world.claim_by_stranger(wallet, epoch, units)

    def holds(self) -> None:
        """True at any moment."""
        for person, brought in zip(self.people, self.brought, strict=True):
            ids = [wallet.pk for wallet in person.wallets.all()]
            booked = sum(queries.paid_by_wallet(ids).values())
            assert sum(balance(kind, person) for kind in KINDS) + booked == brought
            waiting = Withdrawal.objects.filter(user=person, state__in=withdrawals.RESERVED)
            assert balance(accounts.WITHDRAWING, person) == sum(row.units for row in waiting)
            paid = sum(self.world.paid(wallet) for wallet in person.wallets.all())
            assert booked <= paid <= brought
        self.only_grows()

    def only_grows(self) -> None:
        """What a tree that stands promises a wallet, every later tree that stands promises as well."""
        standing = Epoch.objects.filter(state__in=[EpochState.MINED, EpochState.FINAL], veto_seen=False)
        before: dict[int, int] = {}
        for epoch in standing.order_by("sequence"):
            now = queries.cumulative_by_wallet(epoch.sequence)
            assert all(now.get(wallet_id, 0) >= units for wallet_id, units in before.items())
            if epoch.state == EpochState.FINAL:
                assert self.trees.setdefault(epoch.sequence, now) == now  # a final tree never changes
            before = now

    def comes_to_rest(self) -> None:
        """Left alone, with a node that works: everything confirmed is paid, once."""
        world = self.world
        world.node.break_next.clear()
        for _ in range(5):
            world.node.mine()
            world.node.pass_time(61)
            for _ in range(4):
                world.round(later=61)
            self.do("review", 0, 0)
            settlement.close_epoch(now=world.now)
            world.now = world.now + claims_pause()
            for who in (0, 1):
                self.do("claim", who, 0)
        for _ in range(5):
            world.round(later=61)
        self.holds()
        assert not Claim.objects.filter(state__in=[ClaimState.REQUESTED, ClaimState.SENT]).exists()
        for person in self.people:
            assert balance(accounts.SETTLED, person) == balance(accounts.WITHDRAWING, person) == 0
            for wallet in person.wallets.all():
                out = wallet.withdrawals.filter(state=WithdrawalState.PAID)
                earned = sum(leaf.earned_units for leaf in wallet.leaves.filter(withdrawn_from=None))
                assert world.paid(wallet) == sum(row.units for row in out) + earned
            left = Withdrawal.objects.filter(user=person).exclude(
                state__in=[WithdrawalState.PAID, WithdrawalState.CANCELLED]
            )
            assert not left.exists()


def claims_pause() -> Any:
    from billing.services.auto_claims import PAUSE

    return PAUSE


@pytest.mark.slow
@pytest.mark.django_db
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=45))
def test_everything_withdrawn_and_earned_is_paid_once(cast, chain_settings, request, steps):
    site = request.getfixturevalue("settings")
    site.WITHDRAWAL_MIN_NTC = 1
    try:
        with transaction.atomic():
            world = fake_world(site)
            world.node.settlement.claim_delay = 60
            scene = Scene(world, [cast.owner, cast.publisher], cast.staff)
            for name, who, number in steps:
                with suppress(*REFUSALS):
                    scene.do(name, who, number)
                scene.holds()
            scene.comes_to_rest()
            raise Rollback
    except Rollback:
        pass
