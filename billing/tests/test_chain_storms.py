"""Reorganisations, bad nodes and stuck transactions on a real Anvil behind a stricter proxy: in the end it must add up."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from billing.chain import client, keys
from billing.chain.types import Call
from billing.services import claims, settlement
from billing.tests.settling import NTC, World
from billing.tests.storms import Storm, adds_up
from interchain_site.testing import strict_rpc
from interchain_site.testing.anvil import Anvil, anvil
from interchain_site.testing.strict_rpc import StrictRpc

pytestmark = pytest.mark.anvil


@pytest.fixture
def _anvil() -> Iterator[Anvil]:
    """A chain per test: Anvil forgets the states of blocks that are very old, and then cannot go back to them."""
    with anvil() as node:
        yield node


@pytest.fixture
def rpc(_anvil) -> Iterator[StrictRpc]:
    with strict_rpc.strict_rpc(_anvil.url) as proxy:
        yield proxy


@pytest.fixture
def storm(real: World, rpc: StrictRpc, settings) -> Storm:
    settings.ETHEREUM_CONFIRMATIONS = 3
    real.chain = client.RpcChain(rpc.url, timeout_seconds=2)
    storm = Storm(real)
    storm.prepare()
    storm.calm(2)
    return storm


def live(storm: Storm, cast) -> None:
    """Everything at once: a deposit, earnings settled in an epoch, and its claim."""
    world = storm.world
    wallet = cast.owner.wallets.first() or world.link(cast.owner)
    world.earn(cast.owner, 5)
    storm.deposit(cast.buyer, 10)
    settlement.close_epoch(now=world.now)
    for _ in range(4):
        world.round(later=1)
        world.node.mine(2)
    claims.claim(wallet_id=wallet.pk, by=cast.owner, now=world.now)
    world.round(later=1)
    storm.deposit(cast.buyer, 3)


@pytest.mark.parametrize("what", ["dropped", "mined again", "conflicting"])
@pytest.mark.parametrize("depth", [1, 2, 7, 64])
def test_after_a_reorganisation_everything_adds_up(storm: Storm, cast, depth: int, what: str):
    storm.world.node.mine(64)
    storm.world.round(later=1)
    live(storm, cast)
    storm.reorganise(depth, again=what == "mined again")
    if what == "conflicting":
        # Somebody used our nonces for something else, and the stranger deposits another amount instead.
        operator = keys.development_signer(keys.OPERATOR).address
        for _ in range(2):
            storm.send(keys.OPERATOR, Call(operator, b""))
        storm.deposit(cast.buyer, 4)
    storm.calm()
    adds_up(storm.world)
    storm.deposit(cast.buyer, 2)
    storm.calm(3)
    adds_up(storm.world)
    assert storm.world.paid(cast.owner.wallets.get()) == 5 * NTC


@pytest.mark.slow
def test_reorganisations_of_every_size_one_after_another(storm: Storm, cast):
    """Depths from 1 to 64, drawn with a seed, while people go on depositing, earning and claiming."""
    draw = random.Random(20261122)
    storm.world.node.mine(64)
    for round_ in range(8):
        live(storm, cast)
        storm.reorganise(draw.randint(1, 64), again=draw.random() < 0.5)
        storm.calm()
        adds_up(storm.world)
        assert storm.world.paid(cast.owner.wallets.get()) == 5 * NTC * (round_ + 1)
