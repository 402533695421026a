"""`manage.py deploy_contracts`: once, whatever happens in between."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command

from billing.chain import client, deployments, keys
from billing.chain.checks import check_chain, check_keystore_pair
from billing.chain.contracts import Totals
from billing.chain.errors import ForeignContracts
from billing.models import ChainTransaction, Transaction
from billing.services import contracts
from billing.services.contract_settings import AddressesMissing
from billing.tests.settling import NTC, World, balance, new_address
from interchain_site.core.models import StaffAlert
from interchain_site.testing.anvil import anvil
from interchain_site.testing.servers import free_port

pytestmark = pytest.mark.anvil


def test_it_deploys_and_stocks_the_desk_once(real: World, settings):
    wanted = settings.DESK_INVENTORY_NTC * NTC
    sent = ChainTransaction.objects.count()
    for _ in range(2):
        call_command("deploy_contracts", stdout=StringIO())
    assert ChainTransaction.objects.count() == sent == 10
    assert (balance("desk_inventory"), balance("escrow")) == (wanted, -wanted)
    assert real.deployment.contract.totals(real.chain) == (wanted, 0)
    assert json.loads(settings.ETHEREUM_DEPLOYMENTS_FILE.read_text())["settlement"] == real.deployment.settlement


def test_a_lost_file_is_written_again_from_the_database(real: World, settings):
    before = real.deployment
    settings.ETHEREUM_DEPLOYMENTS_FILE.unlink()
    contracts.deploy(chain=real.chain, now=real.now)
    assert deployments.load() == before


def test_contracts_of_another_database_are_left_alone(real: World, cast, settings):
    real.as_account(
        0,
        real.deployment.contract.settle(
            epoch=1, payout_root="0x" + "1" * 64, usage_root="0x" + "1" * 64, totals=Totals(0, 0, 0)
        ),
    )
    assert check_chain()[0].id == "interchain.E026"
    settings.DEBUG = False
    with pytest.raises(ForeignContracts):
        contracts.deploy(chain=real.chain, now=real.now)


def test_in_production_the_addresses_must_be_set(real: World, settings, tmp_path):
    settings.DEBUG = False
    settings.ETHEREUM_DEPLOYMENTS_FILE = tmp_path / "none.json"
    with pytest.raises(AddressesMissing, match="ETHEREUM_GUARDIAN_ADDRESS"):
        contracts.deploy(chain=real.chain, now=real.now)


def test_a_node_that_is_down_is_said_in_one_line(db, chain_settings, settings):
    settings.ETHEREUM_RPC_URL = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(CommandError, match="does not answer"):
        call_command("deploy_contracts")


def test_a_local_chain_that_lost_everything_is_made_again_from_the_stored_bytes(db, cast, settings, chain_settings):
    """`kill -9` of Anvil before it saved anything: the same bytes give the same contracts, epochs and payments."""
    port = free_port()
    settings.ETHEREUM_RPC_URL = f"http://127.0.0.1:{port}"
    with anvil(port=port) as node:
        world = World(client.RpcChain(node.url), node)
        contracts.deploy(chain=world.chain, now=world.now)
        wallet = world.link(cast.owner)
        world.earn(cast.owner, 5)
        world.settle()
        world.claim(wallet)
    entries = Transaction.objects.count()
    with anvil(port=port) as node:
        assert world.times_settled() == []
        for _ in range(3):
            assert world.round(later=1) == []
        assert world.times_settled() == [1]
        assert world.paid(wallet) == 5 * NTC
        world.earn(cast.owner, 2)
        world.settle()
        world.claim(wallet)
        assert world.paid(wallet) == 7 * NTC
    assert Transaction.objects.count() == entries + 3 + 2  # the claim was taken back, and paid again
    assert balance("settled", cast.owner) == 0


def test_the_checks_are_quiet_when_all_is_well(real: World):
    assert check_chain() == []


def test_the_checks_name_what_is_wrong(real: World, settings, tmp_path):
    found = {}
    settings.ETHEREUM_CHAIN_ID = 1
    found["key"] = check_chain()
    settings.ETHEREUM_KEYSTORE_FILE = str(tmp_path / "none.json")
    found["half"] = check_keystore_pair()
    settings.ETHEREUM_KEYSTORE_FILE, settings.ETHEREUM_CHAIN_ID = "", 31337
    settings.ETHEREUM_RPC_URL = f"http://127.0.0.1:{free_port()}"
    found["down"] = check_chain()
    settings.ETHEREUM_RPC_URL = real.node.url
    settings.ETHEREUM_DEPLOYMENTS_FILE = tmp_path / "none.json"
    found["missing"] = check_chain()
    assert {name: errors[0].id for name, errors in found.items()} == {
        "key": "interchain.E021",
        "half": "interchain.E020",
        "down": "interchain.E022",
        "missing": "interchain.E024",
    }
    assert all(errors[0].hint for errors in found.values())


def test_another_chain_and_another_key_are_named(real: World, settings, monkeypatch):
    monkeypatch.setattr("billing.chain.keys.signer", lambda role: type("Other", (), {"address": new_address()}))
    assert check_chain()[0].id == "interchain.E025"
    settings.ETHEREUM_CHAIN_ID = 1
    assert check_chain()[0].id == "interchain.E023"


def test_a_file_of_an_older_version_is_said_in_one_line(real: World, settings):
    settings.ETHEREUM_DEPLOYMENTS_FILE.write_text(
        '{"chain_id": 31337, "intercoin": "0x1", "settlement": "0x2", "block": 2}'
    )
    with pytest.raises(CommandError, match="start with an empty data folder"):
        call_command("deploy_contracts")
    assert check_chain()[0].id == "interchain.E024"
    assert "does not describe the contracts" in real.round()[0]


def test_too_little_ether_is_said_with_address_and_amount(real: World):
    operator = keys.operator().address
    had = real.node.ask("eth_getBalance", operator, "latest")
    real.node.ask("anvil_setBalance", operator, hex(10**13))
    [found] = [one for one in check_chain() if one.id == "interchain.W031"]
    assert operator in found.msg
    assert "0.00001 ETH left" in found.msg
    assert f"to {operator}" in found.hint
    real.round()
    alert = StaffAlert.objects.standing().get(code="gas_money_low")
    assert alert.subject == operator
    assert alert.mend.startswith("Send at least 0.")
    real.node.ask("anvil_setBalance", operator, had)
    real.round()
    assert not StaffAlert.objects.standing().exists()


def test_ordinary_commands_do_not_ask_the_node(db, settings):
    settings.ETHEREUM_RPC_URL = f"http://127.0.0.1:{free_port()}"
    assert not [found for found in run_checks() if (found.id or "").startswith("interchain.E02")]
