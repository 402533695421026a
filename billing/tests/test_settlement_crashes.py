"""A process may die at any moment of a round; the next rounds finish the work, once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from billing.chain import following, transactions
from billing.chain.states import ClaimState
from billing.models import ChainTransaction, Claim
from billing.services import chain_events, chain_reading, claims, epoch_confirmation, ledger, settlement, vetoes
from billing.tests.settling import NTC, World, balance, fake_world


class Killed(BaseException):
    """Not an `Exception`: nothing may catch it, as nothing catches a lost power supply."""


class Rollback(Exception):
    pass


class Fuse:
    """Counts the moments at which a process could die, and kills it at one of them."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.blown = False

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.blown = True
            raise Killed

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: object, **kwargs: object) -> object:
            self.burn()
            answer = function(*args, **kwargs)
            self.burn()
            return answer

        return wrapped


READS = {"read", "has_code", "fees", "chain_id", "balance", "transaction_count"}


class Fused:
    """A chain on which every call that sends or looks for news is such a moment, before and after.

    Dying before or after any other read leaves the same behind as dying at the step around it, which is a moment already.
    """

    def __init__(self, chain: object, fuse: Fuse) -> None:
        self._chain, self._fuse = chain, fuse

    def __getattr__(self, name: str) -> object:
        found = getattr(self._chain, name)
        return found if name in READS else self._fuse.around(found)


MOMENTS = (
    (settlement, "transition"),
    (settlement, "_matured"),
    (settlement, "_write_leaves"),
    (claims, "transition"),
    (claims, "_post"),
    (chain_events, "book"),
    (chain_reading, "_store"),
    (epoch_confirmation, "transition"),
    (following, "transition"),
    (transactions, "sign"),
    (transactions, "send"),
    (ledger, "post"),
)


def _dies_once(world: World, fuse: Fuse, owner: Any, monkeypatch) -> None:
    """Earn, settle and claim with a process that dies once and is started again."""
    wallet = world.link(owner)
    world.earn(owner, 5)
    world.use(lease="one")
    plain = world.chain
    world.chain = Fused(plain, fuse)
    with monkeypatch.context() as patch:
        for module, name in MOMENTS:
            patch.setattr(module, name, fuse.around(getattr(module, name)))
        for _ in range(9):
            try:
                world.round(later=3600)
                if balance("settled", owner) and not Claim.objects.exists():
                    claims.claim(wallet_id=wallet.pk, by=owner, now=world.now)
            except (Killed, claims.NothingToClaim):
                pass
            if Claim.objects.filter(state=ClaimState.FINAL).exists():
                break
    world.chain = plain
    for _ in range(2):
        assert world.round(later=1) == []


@pytest.mark.slow
def test_wherever_a_process_dies_each_epoch_settles_once_and_nobody_is_paid_twice(
    db, cast, settings, chain_settings, monkeypatch
):
    for moment in itertools.count(1):
        fuse = Fuse(at=moment)
        try:
            with transaction.atomic():
                world = fake_world(settings)
                _dies_once(world, fuse, cast.owner, monkeypatch)
                wallet = cast.owner.wallets.get()
                where = f"killed at moment {moment}"
                assert world.times_settled() == [1], where
                assert world.paid(wallet) == 5 * NTC, where
                assert balance("settled", cast.owner) == 0, where
                assert balance("escrow") == (5 - 1_000_000) * NTC, where
                assert ChainTransaction.objects.exclude(state="final").count() == 0, where
                assert list(Claim.objects.values_list("state", flat=True)) == ["final"], where
                raise Rollback
        except Rollback:
            pass
        if not fuse.blown:
            break
    assert moment > 60, "the fuse did not reach the work"


STEPS = (
    (settlement, "_matured"),
    (settlement, "roots"),
    (transactions, "build"),
    (transactions, "send"),
    (following, "_mine"),
    (chain_reading, "_store"),
    (epoch_confirmation, "_confirm_posted"),
    (epoch_confirmation, "_confirm_mined"),
    (chain_events, "book"),
)


@pytest.mark.anvil
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("module", "name"), STEPS, ids=[name for _, name in STEPS])
def test_on_a_real_node_each_numbered_step_survives_a_crash(real: World, cast, monkeypatch, module, name, when):
    wallet = real.link(cast.owner)
    real.earn(cast.owner, 5)
    with monkeypatch.context() as patch:
        fuse = Fuse(at=1 if when == "before" else 2)
        patch.setattr(module, name, fuse.around(getattr(module, name)))
        for _ in range(8):
            try:
                real.round(later=3600)
                claims.claim(wallet_id=wallet.pk, by=cast.owner, now=real.now)
            except (Killed, claims.NothingToClaim):
                pass
        assert fuse.blown
    for _ in range(4):
        assert real.round(later=1) == []
    assert real.times_settled() == [1]
    assert real.paid(wallet) == 5 * NTC
    assert balance("settled", cast.owner) == 0
    assert Claim.objects.filter(state=ClaimState.FINAL).count() == 1


def test_two_workers_close_and_post_an_epoch_once(fake: World, cast):
    fake.link(cast.owner)
    fake.earn(cast.owner, 5)
    first = settlement.close_epoch(now=fake.now)
    assert settlement.close_epoch(now=fake.now) is None
    for _ in range(2):
        settlement.post_epoch(epoch_id=first.pk, chain=fake.chain, now=fake.now)
    assert fake.times_settled() == [1]


def test_a_pending_veto_is_no_reason_to_lose_a_round(fake: World, cast):
    assert not vetoes.pending()
    assert fake.round() == []
