"""Stored before sent, sent until mined, replaced when stuck: one nonce, one effect."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from billing.chain import client, following, keys, transactions
from billing.chain.contracts import Totals
from billing.chain.errors import ChainRefused, ChainUnavailable, Reverted, WrongChain
from billing.chain.fake import unavailable
from billing.chain.types import Fees
from billing.models import ChainAttempt, ChainSender, ChainTransaction, Epoch
from billing.services import claims, settlement
from billing.tests.settling import NTC, World, balance

GWEI = 10**9


def closed(world: World, cast) -> Epoch:
    world.link(cast.owner)
    world.earn(cast.owner, 5)
    epoch = settlement.close_epoch(now=world.now)
    assert epoch is not None
    return epoch


def post(world: World, epoch: Epoch) -> ChainTransaction:
    return settlement.post_epoch(epoch_id=epoch.pk, chain=world.chain, now=world.now).posting


def test_the_signed_bytes_are_stored_before_anything_is_sent(fake: World, cast):
    fake.node.break_next["send"] = unavailable
    with pytest.raises(ChainUnavailable):
        post(fake, closed(fake, cast))
    row = ChainTransaction.objects.get()
    assert row.state == "built"
    assert "does not answer" in row.error
    assert row.attempts.get().raw
    assert Epoch.objects.get(sequence=1).state == "posted"
    fake.round()
    fake.round()
    row.refresh_from_db()
    assert (row.state, row.error) == ("final", "")
    assert ChainAttempt.objects.count() == 1


def test_a_node_that_takes_it_and_does_not_answer_is_asked_for_the_same_bytes(fake: World, cast):
    fake.node.break_next["after_send"] = unavailable
    with pytest.raises(ChainUnavailable):
        post(fake, closed(fake, cast))
    fake.round()
    assert fake.times_settled() == [1]
    assert ChainAttempt.objects.count() == 1


def test_a_stuck_transaction_is_replaced_under_the_same_nonce_with_an_eighth_more(world: World, cast, settings):
    world.automine(False)
    row = post(world, closed(world, cast))
    first = row.attempts.get()
    world.round(later=settings.ETHEREUM_STUCK_SECONDS - 1)
    assert row.attempts.count() == 1
    world.round(later=2)
    second = row.attempts.latest("id")
    assert second.pk != first.pk
    assert second.max_fee * 8 >= first.max_fee * 9
    assert second.priority_fee * 8 >= first.priority_fee * 9
    world.node.mine()
    world.automine(True)
    world.round(later=1)
    row.refresh_from_db()
    assert (row.state, row.mined_hash) == ("final", second.hash)
    assert world.times_settled() == [1]


def test_the_first_bytes_may_still_be_the_ones_mined(fake: World, cast, settings):
    fake.automine(False)
    row = post(fake, closed(fake, cast))
    fake.node.mine()  # mined, but nobody looked before it counted as stuck
    fake.round(later=settings.ETHEREUM_STUCK_SECONDS + 1)
    row.refresh_from_db()
    assert row.state == "final"
    assert row.attempts.count() == 1


def test_fees_never_rise_above_the_limit(fake: World, cast, settings):
    settings.ETHEREUM_MAX_FEE_GWEI = 4
    fake.automine(False)
    row = post(fake, closed(fake, cast))
    for _ in range(5):
        fake.round(later=settings.ETHEREUM_STUCK_SECONDS + 1)
    assert max(row.attempts.values_list("max_fee", flat=True)) <= 4 * GWEI
    row.refresh_from_db()
    assert "ETHEREUM_MAX_FEE_GWEI" in row.error
    assert ChainTransaction.objects.stuck().filter(pk=row.pk).exists() is False  # by the wall clock it is young


@pytest.mark.parametrize("fee", [1, 7, 8, 9, 1_000_000_007])
def test_an_eighth_more_is_at_least_an_eighth_more(fee):
    assert following.raised(fee) * 8 >= fee * 9
    assert following.raised(fee) * 8 < fee * 9 + 8


def test_nonces_follow_the_database_and_never_repeat(fake: World, cast):
    call = fake.deployment.contract.settle(
        epoch=1, payout_root="0x" + "0" * 64, usage_root="0x" + "0" * 64, totals=Totals(0, 0, 0)
    )
    plan = transactions.plan(call=call, chain=fake.chain)
    rows = [transactions.build(key=f"test:{number}", plan=plan, now=fake.now) for number in range(3)]
    assert [row.nonce for row in rows] == [0, 1, 2]
    assert transactions.build(key="test:1", plan=plan, now=fake.now).pk == rows[1].pk
    assert ChainSender.objects.get().next_nonce == 3


def test_a_key_used_elsewhere_does_not_make_a_nonce_twice(fake: World, cast):
    sender = keys.operator().address
    fake.node._state.counts[sender] = 7
    assert post(fake, closed(fake, cast)).nonce == 7


def test_what_the_contract_refuses_uses_no_nonce(fake: World, cast):
    fake.node.settlement.refusal = "SettlementUnderfunded"
    with pytest.raises(Reverted, match="SettlementUnderfunded"):
        post(fake, closed(fake, cast))
    assert not ChainTransaction.objects.exists()
    assert "SettlementUnderfunded" in Epoch.objects.get(sequence=1).error
    fake.node.settlement.refusal = ""
    fake.round()
    assert fake.times_settled() == [1]


def test_a_transaction_that_reverts_in_its_block_is_made_anew(fake: World, cast):
    fake.automine(False)
    row = post(fake, closed(fake, cast))
    fake.node.settlement.refusal = "SettlementUnderfunded"  # what held at signing does not hold when it is mined
    fake.node.mine()
    fake.round()
    row.refresh_from_db()
    assert row.state == "reverted"
    fake.node.settlement.refusal = ""
    fake.automine(True)
    for _ in range(3):
        fake.round(later=1)
    epoch = Epoch.objects.get(sequence=1)
    assert (epoch.state, epoch.attempts) == ("final", 2)
    assert fake.times_settled() == [1]


def test_one_transaction_the_node_refuses_does_not_stop_the_others(fake: World, cast):
    def refuse() -> None:
        raise ChainRefused("The Ethereum node refuses: insufficient funds for gas")

    fake.node.break_next["send"] = refuse
    with pytest.raises(ChainRefused):
        post(fake, closed(fake, cast))
    fake.node.break_next["send"] = refuse
    found = following.follow(chain=fake.chain, now=fake.now)
    assert "insufficient funds" in found.refused[0]
    assert fake.round(later=60) == []
    assert fake.times_settled() == [1]


def test_final_needs_as_many_blocks_as_the_settings_say(world: World, cast, settings):
    settings.ETHEREUM_CONFIRMATIONS = 3
    row = post(world, closed(world, cast))
    for state in ("mined", "mined", "final"):
        world.round(later=1)
        row.refresh_from_db()
        assert row.state == state
        world.node.mine()


@pytest.mark.anvil
def test_a_block_that_vanishes_is_made_again_by_the_same_bytes(real: World, cast):
    wallet = real.link(cast.owner)
    before = real.node.snapshot()
    real.earn(cast.owner, 5)
    real.settle()
    real.claim(wallet)
    hashes = set(ChainAttempt.objects.values_list("hash", flat=True))
    real.node.restore(before)
    real.node.pass_time(5)
    assert real.times_settled() == []
    for _ in range(6):
        assert real.round(later=1) == []
    assert real.times_settled() == [1]
    assert real.paid(wallet) == 5 * NTC
    # The epoch by the same bytes; it is claimable at another time now, so the claim is made anew.
    assert hashes < set(ChainAttempt.objects.values_list("hash", flat=True))
    assert balance("settled", cast.owner) == 0
    states = dict(ChainTransaction.objects.values_list("key", "state"))
    assert {states.pop("claim:1:1"), *states.values()} == {"reverted", "final"}


class _ForgetfulProxy(BaseHTTPRequestHandler):
    """Passes everything on; of the first `forgets` raw transactions it keeps the answer to itself."""

    target = ""
    forgets = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = httpx.post(self.target, content=body, headers={"Content-Type": "application/json"})
        if json.loads(body)["method"] == "eth_sendRawTransaction" and type(self).forgets > 0:
            type(self).forgets -= 1
            time.sleep(2.5)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def forgetful(_anvil) -> Iterator[str]:
    _ForgetfulProxy.target, _ForgetfulProxy.forgets = _anvil.url, 2
    server = ThreadingHTTPServer(("127.0.0.1", 0), _ForgetfulProxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.anvil
def test_a_real_node_that_accepts_and_then_times_out_settles_and_pays_once(real: World, cast, forgetful):
    real.chain = client.RpcChain(forgetful, timeout_seconds=1)
    wallet = real.link(cast.owner)
    real.earn(cast.owner, 5)
    with pytest.raises(ChainUnavailable):
        post(real, settlement.close_epoch(now=real.now))
    for _ in range(3):
        real.round(later=61)
    claims.claim(wallet_id=wallet.pk, by=cast.owner, now=real.now)
    assert "does not answer" in real.round()[0]
    for _ in range(2):
        assert real.round(later=61) == []
    assert balance("settled", cast.owner) == 0
    assert real.times_settled() == [1]
    assert real.paid(wallet) == 5 * NTC
    assert _ForgetfulProxy.forgets == 0


def test_a_node_that_is_down_costs_a_round_and_nothing_else(fake: World, cast, settings):
    settings.ETHEREUM_RPC_URL = "http://127.0.0.1:9"
    closed(fake, cast)
    from billing.services import rounds

    assert "does not answer" in rounds.run(now=fake.now)[0]
    assert fake.round(later=1) == []
    assert fake.times_settled() == [1]


@pytest.mark.anvil
def test_nothing_is_sent_to_another_chain(real: World, cast, settings):
    settings.ETHEREUM_CHAIN_ID = 1
    with pytest.raises(WrongChain, match="is on chain 31337, but ETHEREUM_CHAIN_ID is 1"):
        client.connect()


@pytest.mark.anvil
def test_a_transaction_signed_for_another_chain_is_refused_by_the_node(real: World):
    signer = keys.development_signer(4)
    call = real.deployment.contract.deposit(reference="0x" + "1" * 64, amount=1)
    signed = signer.sign(call, chain_id=1, nonce=0, gas=100_000, fees=Fees(10 * GWEI, GWEI))
    with pytest.raises(ChainRefused):
        real.chain.send(signed.raw)


@pytest.mark.verification
def test_repeating_a_send_is_harmless(world: World, cast):
    world.automine(False)
    row = post(world, closed(world, cast))
    for _ in range(2):
        transactions.send(row=row, chain=world.chain, now=world.now + timedelta(seconds=1))
    world.node.mine()
    world.automine(True)
    transactions.send(row=row, chain=world.chain, now=world.now)
    assert world.times_settled() == [1]
