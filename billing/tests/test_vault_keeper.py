"""The chain worker keeps the founders' vault's price observed, once a day, on a real chain."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from billing.chain import client
from billing.chain.interfaces import interface
from billing.chain.vault import FounderVault
from billing.services import contracts, sale_rounds, vault_keeper
from billing.tests.saling import Shop
from interchain_site.core.models import StaffAlert
from interchain_site.testing.anvil import Anvil

pytestmark = pytest.mark.anvil
DAY = 86_400


@pytest.fixture
def node(_anvil: Anvil) -> Anvil:
    _anvil.automine(True)
    return _anvil


@pytest.fixture
def shop(db, settings, chain_settings, node, stripe) -> Shop:
    """A sale whose round 1 is open."""
    settings.ETHEREUM_RPC_URL = node.url
    found = Shop(client.RpcChain(node.url), stripe)
    contracts.deploy(chain=found.chain, now=found.now)
    found.turn(2)
    return found


def observe(shop: Shop) -> int:
    sent = vault_keeper.observe(chain=shop.chain, now=shop.now)
    shop.turn(2)
    return sent


def open_round_3(shop: Shop) -> None:
    for number in (1, 2):
        sale_rounds.order_close(number=number, by=None, now=shop.now)
        shop.turn(3)
        shop.open(Decimal("0.5"))


def test_the_price_is_noted_once_a_day_from_round_3_on(shop, node):
    vault = FounderVault(shop.deployment.vault)
    assert observe(shop) == 0, "round 3 is not open"
    open_round_3(shop)
    assert [observe(shop), observe(shop)] == [1, 0]
    first, price = vault.last_observation(shop.chain)
    assert price > 0
    node.pass_time(DAY)
    shop.now += timedelta(days=1)
    assert [observe(shop), observe(shop)] == [1, 0]
    assert vault.last_observation(shop.chain)[0] >= first + DAY
    assert vault.observed_since(shop.chain) == first, "one unbroken row"


def test_a_feed_that_is_not_to_be_believed_is_told_to_staff(shop, node):
    open_round_3(shop)
    feed = interface("TestFeed").call(shop.deployment.ntc_feed, "answer", 9, 10**8, 1, 9)  # given in 1970
    sender = node.ask("eth_accounts")[0]
    node.ask("eth_sendTransaction", {"from": sender, "to": shop.deployment.ntc_feed, "data": "0x" + feed.data.hex()})
    assert observe(shop) == 0
    alert = StaffAlert.objects.get(code="vault_not_observed")
    assert "PriceFeedStale" in alert.message
