"""Fixtures of settlement's tests. `world` runs a test on the chain in memory and, marked `anvil`, on a real node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from billing.chain import client
from billing.services import contracts
from billing.tests.settling import World, fake_world
from interchain_site.testing.anvil import Anvil, anvil


@pytest.fixture(scope="session")
def _running_anvil() -> Iterator[Anvil]:
    with anvil() as node:
        yield node


@pytest.fixture
def _anvil(_running_anvil: Anvil) -> Anvil:
    """A chain without a past: what an earlier test left waiting, dropped or reorganised is nobody's business any more."""
    _running_anvil.reset()
    return _running_anvil


@pytest.fixture
def chain_settings(settings, tmp_path) -> None:
    settings.DEBUG = True  # the embedded default, as `bin/run` sets it
    settings.ETHEREUM_DEPLOYMENTS_FILE = tmp_path / "deployments.json"
    settings.ETHEREUM_CHAIN_ID = 31337
    settings.ETHEREUM_CONFIRMATIONS = 1
    settings.ADDRESS_HOLD_SECONDS = 0  # waiting has tests of its own
    settings.ETHEREUM_KEYSTORE_FILE = settings.ETHEREUM_KEYSTORE_PASSWORD_FILE = ""


@pytest.fixture
def fake(db, settings, chain_settings) -> World:
    """A world with the chain in memory only."""
    return fake_world(settings)


@pytest.fixture
def real(db, settings, chain_settings, _anvil) -> World:
    """A world on a real Anvil, with contracts of its own."""
    settings.ETHEREUM_RPC_URL = _anvil.url
    _anvil.automine(True)
    chain = client.RpcChain(_anvil.url)
    world = World(chain, _anvil)
    contracts.deploy(chain=chain, now=world.now)
    return world


@pytest.fixture(params=["fake", pytest.param("real", marks=[pytest.mark.anvil, pytest.mark.verification])])
def world(request) -> World:
    """Both: what holds on one must hold on the other."""
    return request.getfixturevalue(request.param)
