"""Nodes that lie, lag, forget, refuse or are slow, on a real Anvil behind a proxy: what is booked waits, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from billing.chain import client, finality, keys
from billing.chain.interfaces import interface
from billing.chain.types import Call, Fees
from billing.models import ChainEvent, ChainTransaction, Epoch
from billing.services import chain_accounts, claims, settlement
from billing.tests.settling import NTC, World, balance
from billing.tests.storms import Storm, adds_up
from interchain_site.core.models import StaffAlert
from interchain_site.testing import strict_rpc
from interchain_site.testing.strict_rpc import SEND, StrictRpc, lie

pytestmark = pytest.mark.anvil


@pytest.fixture
def rpc(_anvil) -> Iterator[StrictRpc]:
    with strict_rpc.strict_rpc(_anvil.url) as proxy:
        yield proxy


@pytest.fixture
def storm(real: World, rpc: StrictRpc, settings) -> Storm:
    settings.ETHEREUM_CONFIRMATIONS = 2
    real.chain = client.RpcChain(rpc.url, timeout_seconds=1)
    storm = Storm(real)
    storm.prepare()
    storm.calm()
    StaffAlert.objects.all().delete()  # what the cashier's key gave the stranger is for no purchase of ours, and said so
    return storm


def alerts() -> set[str]:
    return set(StaffAlert.objects.standing().values_list("code", flat=True))


def earned_and_closed(storm: Storm, owner: Any) -> Epoch:
    world = storm.world
    if not owner.wallets.exists():
        world.link(owner)
    world.earn(owner, 5)
    epoch = settlement.close_epoch(now=world.now)
    assert epoch is not None
    return epoch


def test_logs_that_are_left_out_are_noticed_by_the_sums(storm: Storm, rpc: StrictRpc, cast):
    topic = (
        "0x" + interface("Settlement").said("Deposited", account=bytes(32), payer="0x" + "0" * 40, amount=1)[0][0].hex()
    )
    rpc.always("eth_getLogs", lie(lambda logs: [log for log in logs if log["topics"][0] != topic]))
    storm.deposit(cast.buyer, 10)
    storm.world.node.mine(3)
    assert any("do not add up" in trouble for trouble in storm.world.round())
    assert "logs_missing" in alerts()
    assert balance("available", cast.buyer) == 0
    rpc.calm()
    assert storm.world.round() == []
    assert balance("available", cast.buyer) == 10 * NTC
    assert alerts() == set()


def test_a_node_that_cuts_long_answers_short_is_asked_in_short_ranges(storm: Storm, rpc: StrictRpc, cast):
    def cut(rpc: StrictRpc, question: dict[str, Any]) -> Any:
        asked = question["params"][0]
        long = int(asked["toBlock"], 16) - int(asked["fromBlock"], 16) > 60
        return [] if long else rpc.obey(question)

    storm.deposit(cast.buyer, 10)
    storm.world.node.mine(80)
    rpc.always("eth_getLogs", cut)
    assert storm.world.round() == []
    assert balance("available", cast.buyer) == 10 * NTC


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("eth_getTransactionReceipt", lambda found: found and {**found, "blockHash": "0x" + "1" * 64}),
        ("eth_getTransactionReceipt", lambda found: found and {**found, "logs": []}),
        ("eth_getTransactionReceipt", lambda found: found and {**found, "status": "0x0"}),
        ("eth_getTransactionReceipt", lambda found: None),
        ("eth_getLogs", lambda logs: [{**log, "data": "0x" + "f" * 64} for log in logs]),
        ("eth_getLogs", lambda logs: "rubbish"),
        ("eth_call", lambda _: "0x"),
    ],
    ids=["block", "no logs", "failed", "unknown", "data", "rubbish", "empty answer"],
)
def test_answers_that_contradict_each_other_are_not_booked(storm: Storm, rpc: StrictRpc, cast, method, change):
    storm.deposit(cast.buyer, 10)
    storm.world.node.mine(3)
    rpc.always(method, lie(change))
    assert storm.world.round() != []
    assert balance("available", cast.buyer) == 0
    rpc.calm()
    assert storm.world.round() == []
    assert balance("available", cast.buyer) == 10 * NTC
    adds_up(storm.world)


def test_a_node_that_lags_undoes_nothing(storm: Storm, rpc: StrictRpc, cast):
    storm.deposit(cast.buyer, 10)
    storm.world.node.mine(3)
    storm.world.round()
    older = storm.world.node.ask("eth_getBlockByNumber", hex(storm.world.chain.head().number - 4), False)
    rpc.always("eth_getBlockByNumber", lambda rpc, asked: older if asked["params"][0] == "latest" else rpc.obey(asked))
    storm.world.round()
    assert not ChainEvent.objects.exclude(state="final").exists()
    assert balance("available", cast.buyer) == 10 * NTC


def test_another_chain_mid_way_is_left_alone(storm: Storm, rpc: StrictRpc, cast):
    earned_and_closed(storm, cast.owner)
    rpc.always("eth_chainId", lie(lambda _: "0x1"))
    assert "another chain" in storm.world.round()[0]
    assert alerts() == {"wrong_chain"}
    assert Epoch.objects.get(sequence=1).state == "closed"
    rpc.calm()
    storm.calm(3)
    assert alerts() == set()
    assert storm.world.times_settled() == [1]


@pytest.mark.parametrize("fault", [strict_rpc.swallow, strict_rpc.drop, strict_rpc.dead, strict_rpc.slow(1.5)])
def test_a_transaction_whose_answer_is_lost_happens_once(storm: Storm, rpc: StrictRpc, cast, fault):
    earned_and_closed(storm, cast.owner)
    rpc.next(SEND, fault)
    storm.world.round()
    storm.calm(3)
    claims.claim(wallet_id=cast.owner.wallets.get().pk, by=cast.owner, now=storm.world.now)
    rpc.next(SEND, fault)
    storm.world.round()
    storm.calm(3)
    assert rpc.left(SEND) == 0
    assert storm.world.paid(cast.owner.wallets.get()) == 5 * NTC
    adds_up(storm.world)


def test_a_stuck_transaction_is_replaced_as_strict_nodes_want_it(storm: Storm, rpc: StrictRpc, cast, settings):
    world = storm.world
    epoch = earned_and_closed(storm, cast.owner)
    world.automine(False)
    settlement.post_epoch(epoch_id=epoch.pk, chain=world.chain, now=world.now)
    row = ChainTransaction.objects.get(key="epoch:1:1")
    for _ in range(3):
        world.node.ask("anvil_setNextBlockBaseFeePerGas", hex(row.attempts.latest("pk").max_fee + 1))
        world.node.mine()
        world.round(later=settings.ETHEREUM_STUCK_SECONDS + 1)
    world.automine(True)
    world.node.ask("anvil_setNextBlockBaseFeePerGas", hex(10**9))
    storm.calm(4)
    assert row.attempts.count() > 1
    assert rpc.refused == 0
    assert world.times_settled() == [1]


def test_the_proxy_is_stricter_than_anvil(storm: Storm, rpc: StrictRpc):
    world, signer = storm.world, keys.development_signer(9)
    world.automine(False)
    nonce = world.chain.transaction_count(signer.address)
    sent = []
    for fee in (1_000, 1_050, 1_100):
        fees = Fees(fee * 10**8, fee * 10**6)
        sent.append(signer.sign(Call(signer.address, b""), chain_id=31337, nonce=nonce, gas=30_000, fees=fees))
    world.chain.send(sent[0].raw)
    with pytest.raises(Exception, match="underpriced"):
        world.chain.send(sent[1].raw)
    world.chain.send(sent[2].raw)
    world.automine(True)
    world.node.mine()
    assert rpc.refused == 1


def test_without_ether_everything_waits_and_staff_read_how_much_to_send(storm: Storm, rpc: StrictRpc, cast):
    world, operator = storm.world, keys.operator().address
    had = world.node.ask("eth_getBalance", operator, "latest")
    earned_and_closed(storm, cast.owner)
    world.node.ask("anvil_setBalance", operator, "0x0")
    try:
        assert f"{operator} has 0.00000 ETH" in world.round()[0]
    finally:
        world.node.ask("anvil_setBalance", operator, had)
    assert alerts() == {"no_gas_money", "gas_money_low"}
    assert not ChainTransaction.objects.filter(key__startswith="epoch:").exists()
    storm.calm(3)
    assert alerts() == set()
    assert world.times_settled() == [1]


def test_what_the_second_node_does_not_have_is_not_final(storm: Storm, cast, settings):
    with strict_rpc.strict_rpc(storm.world.node.url) as other:
        settings.ETHEREUM_CHECK_RPC_URL = other.url
        finality._witness.cache_clear()
        other.always("eth_getBlockByNumber", lie(lambda found: found and {**found, "hash": "0x" + "9" * 64}))
        storm.deposit(cast.buyer, 10)
        storm.world.node.mine(3)
        assert any("different blocks" in trouble for trouble in storm.world.round())
        assert "nodes_disagree" in alerts()
        assert balance("available", cast.buyer) == 0
        other.calm()
        assert storm.world.round() == []
        assert balance("available", cast.buyer) == 10 * NTC


def test_final_can_mean_what_the_chain_calls_final(storm: Storm, cast, settings):
    settings.ETHEREUM_FINALITY = "finalized"
    storm.deposit(cast.buyer, 10)
    storm.world.node.mine(40)
    assert storm.world.round() == []
    assert balance("available", cast.buyer) == 0
    storm.world.node.mine(40)
    assert storm.world.round() == []
    assert balance("available", cast.buyer) == 10 * NTC


def test_a_key_used_elsewhere_displaces_and_is_made_anew(storm: Storm, cast):
    world = storm.world
    epoch = earned_and_closed(storm, cast.owner)
    world.automine(False)
    settlement.post_epoch(epoch_id=epoch.pk, chain=world.chain, now=world.now)
    world.node.ask("anvil_dropAllTransactions")
    world.automine(True)
    storm.send(keys.OPERATOR, Call(keys.operator().address, b""))
    storm.calm(6)
    states = dict(ChainTransaction.objects.filter(key__startswith="epoch:").values_list("key", "state"))
    assert states == {"epoch:1:1": "displaced", "epoch:1:2": "final"}
    assert "transaction_displaced" in alerts()
    assert world.times_settled() == [1]


def test_a_deposit_for_nobody_waits_for_staff(storm: Storm, cast):
    reference = chain_accounts.reference_of(user=cast.buyer)
    call = storm.world.deployment.contract.deposit(reference="0x" + "7" * 64, amount=NTC)
    storm.send(7, call)
    storm.calm(2)
    assert balance("unassigned_deposits") == NTC
    assert reference != "0x" + "7" * 64
