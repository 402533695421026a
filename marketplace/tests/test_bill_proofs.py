"""A bill proof from real readings, charged for real, checked by interchain-verify; and every change to it is caught.

Longer than 300 lines because one real bill is made once, with much effort, and every test looks at that one.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import random
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone
from interchain_verify import documents, settled
from interchain_verify.cli import examine
from interchain_verify.keccak import keccak256
from interchain_verify.report import EXIT_FALSE, EXIT_MISSING, EXIT_PROVEN, FALSE, MISSING
from interchain_verify.rpc import Node
from interchain_verify.settled import Question

from billing.chain.merkle import MerkleTree, statement_leaf
from billing.models import DeskRate, Entry, UsageStatement
from billing.services import bill_proofs as billing_proofs
from billing.services.bill_proofs import NoStatement
from billing.tests.conftest import _anvil, _running_anvil, chain_settings, real  # noqa: F401  (fixtures)
from interchain_site.core.canonical import canonical_json, sha256_hex
from interchain_site.core.errors import NotFound
from marketplace import bill_proofs
from marketplace.conftest import lease_of
from marketplace.services import charging
from nodes.agent.protocol import Meter
from nodes.services.totals import Total, raise_totals

HOUR = 3_600_000
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
TRANSACTION = "0x" + "ab" * 32
BLOCK_HASH = "0x" + "cd" * 32


class StubNode:
    """A node that has one epoch settled, as `rpc.Node` would say it."""

    def __init__(self, root: str, *, epoch: int = 7, depth: int = 20, vetoed: bool = False, claimable_at: int = 1_000):
        self.root, self.epoch, self.depth, self.vetoed, self.claimable_at = root, epoch, depth, vetoed, claimable_at
        self.chain_id, self.status, self.kept = 31337, "0x1", True

    def number(self, method):
        return {"eth_chainId": self.chain_id, "eth_blockNumber": 100 + self.depth - 1}[method]

    def block(self, number=None):
        return {"hash": BLOCK_HASH, "timestamp": hex(2_000)}

    def receipt(self, transaction):
        if transaction != TRANSACTION:
            return None
        words = ["11" * 32, self.root[2:], f"{self.claimable_at:064x}", *(["0" * 64] * 8)]
        topics = ["0x" + keccak256(settled.SETTLED.encode()).hex(), f"0x{self.epoch:064x}"]
        log = {"address": CONTRACT.lower(), "topics": topics, "data": "0x" + "".join(words)}
        return {"status": self.status, "blockNumber": hex(100), "blockHash": BLOCK_HASH, "logs": [log]}

    def call(self, to, data, block="latest"):
        if not self.kept:
            return bytes(96)
        return (
            b"\x11" * 32
            + (0 if self.vetoed else self.claimable_at).to_bytes(32, "big")
            + bytes(31)
            + bytes([self.vetoed])
        )

    def logs(self, **_):
        return [{}] if self.vetoed else []


@pytest.fixture
def charged(running, device):
    """Three lines: an hour, half an hour more with a changed rate, then more transfer only."""
    lease = lease_of(running)
    day = timezone.now() - dt.timedelta(days=1)
    type(lease).objects.filter(pk=lease.pk).update(opened_at=day, running_at=day)
    device.measures(lease, uptime=HOUR, transfer=10**9 + 7)
    charging.charge_new_readings()
    DeskRate.objects.create(rate=Decimal("0.3"), starts_at=timezone.now())
    device.measures(lease, uptime=HOUR + HOUR // 2 + 1, compute=33)
    charging.charge_new_readings()
    device.measures(lease, transfer=2 * 10**9)
    charging.charge_new_readings()
    return lease


def line(number: int, person, kind: str = "available") -> Entry:
    found = Entry.objects.filter(account__user=person, account__kind=kind, transaction__kind="usage_charge").order_by(
        "id"
    )
    return found[number]


def file_of(entry: Entry, by) -> dict:
    return bill_proofs.document(billing_proofs.of_line(entry_id=entry.pk, by=by))


def settled_file(entry: Entry, by) -> tuple[dict, StubNode]:
    """The file once an epoch with two other statements has committed to its line."""
    proof = file_of(entry, by)
    leaf = statement_leaf(sha256_hex(canonical_json(proof["statement"])))
    tree = MerkleTree([leaf, statement_leaf("11" * 32), statement_leaf("22" * 32), statement_leaf("33" * 32)])
    path = ["0x" + one.hex() for one in tree.proof(leaf)]
    proof["epoch"] = {"number": 7, "usage_root": tree.root, "proof": path}
    proof["chain"] = {"chain_id": 31337, "settlement": CONTRACT, "block_number": 100, "transaction": TRANSACTION}
    return proof, StubNode(tree.root)


def look(proof: dict, node=None, **asked):
    return examine(canonical_json(proof), Question(node=node, **asked))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_line_is_proven(charged, cast, number):
    proof, node = settled_file(line(number, cast.publisher), cast.publisher)
    report = look(proof, node)
    assert report.exit_code == EXIT_PROVEN, report.text()
    assert "Everything that can be proven is proven." in report.text()
    assert "that the device measured honestly" in " ".join(report.trusted)


def test_the_words_name_quantities_and_money(charged, cast):
    proof, node = settled_file(line(1, cast.publisher), cast.publisher)
    words = look(proof, node).text()
    assert "1800001 base units of uptime" in " ".join(words.split())
    assert "from signed total 3600000 to signed total 5400001" in " ".join(words.split())
    assert "0.3" in words
    assert "10 % of the owner's part" in words


def test_before_the_epoch_and_without_a_node_it_says_so(charged, cast):
    proof = file_of(line(0, cast.publisher), cast.publisher)
    report = look(proof)
    assert report.exit_code == EXIT_MISSING
    assert next(words for kind, words in report.findings if kind == MISSING).startswith(
        "Inclusion: this statement is in no"
    )
    proof, _ = settled_file(line(0, cast.publisher), cast.publisher)
    assert look(proof).exit_code == EXIT_MISSING


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"chain_id": 1}, EXIT_FALSE),
        ({"root": "0x" + "99" * 32}, EXIT_FALSE),
        ({"epoch": 8}, EXIT_FALSE),
        ({"status": "0x0"}, EXIT_FALSE),
        ({"vetoed": True}, EXIT_FALSE),
        ({"vetoed": True, "kept": False, "claimable_at": 3_000}, EXIT_FALSE),
        ({"kept": False}, EXIT_PROVEN),
        ({"depth": 3}, EXIT_MISSING),
        ({"claimable_at": 3_000}, EXIT_MISSING),
    ],
)
def test_what_the_chain_says_counts(charged, cast, change, code):
    proof, node = settled_file(line(0, cast.publisher), cast.publisher)
    for name, value in change.items():
        setattr(node, name, value)
    assert look(proof, node).exit_code == code


def test_another_contract_than_the_one_expected(charged, cast):
    proof, node = settled_file(line(0, cast.publisher), cast.publisher)
    assert look(proof, node, settlement=CONTRACT.lower()).exit_code == EXIT_PROVEN
    assert look(proof, node, settlement="0x" + "12" * 20).exit_code == EXIT_FALSE


@pytest.mark.anvil
@pytest.mark.verification
def test_a_real_bill_on_a_real_chain(real, charged, cast):  # noqa: F811
    """From signed readings through charging and settlement to the contract, and every field of the file tampered with."""
    epoch = real.settle()
    assert epoch.statements_count == 3
    node = Node(real.node.url)
    proof = file_of(line(1, cast.publisher), cast.publisher)
    assert proof["chain"]["transaction"] == epoch.posting.mined_hash
    report = look(proof, node, confirmations=1)
    assert report.exit_code == EXIT_PROVEN, report.text()
    for path, value in list(leaves(proof)):
        for lie in changed(value)[:1]:
            try:
                assert look(_with(proof, path, lie), node, confirmations=1).exit_code != EXIT_PROVEN, (path, lie)
            except documents.Unreadable:
                continue


def _with(proof, path, lie):
    copied = copy.deepcopy(proof)
    at = copied
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = lie
    return copied


def leaves(value, path=()):
    """Every single value of a document, with its path."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from leaves(one, (*path, name))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from leaves(one, (*path, place))
    else:
        yield path, value


def changed(value):
    """The smallest lies about a value."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, str):
        return [value + "0", value[:-1] + chr(ord(value[-1]) ^ 1)] if value else ["0"]
    return [0]


def test_every_field_tampered_with_is_caught(charged, cast):
    proof, node = settled_file(line(1, cast.publisher), cast.publisher)
    count = 0
    for path, value in list(leaves(proof)):
        for lie in changed(value):
            try:
                code = look(_with(proof, path, lie), node).exit_code
            except documents.Unreadable:
                continue
            finally:
                count += 1
            assert code != EXIT_PROVEN, (path, value, lie)
    assert count > 150


def test_a_forged_statement_with_a_true_path_fails_by_its_own_arithmetic(charged, cast):
    """The portal itself lies: it settles a statement that does not add up. Inclusion holds, the sums do not."""
    honest, _ = settled_file(line(1, cast.publisher), cast.publisher)
    lies = {
        "owner_units": 1, "commission_units": 1, "nano_usd": 1, "nano_usd_before": 1, "carry_atto_usd": 1,
        "commission_carry": 1, "nano_usd_of_period": 1, "carry_atto_usd_before": 10**15, "commission_basis_points": 500,
        "commission_carry_before": 10_000,
    }  # fmt: skip
    for name, more in lies.items():
        assert _forged(honest, lambda statement, name=name, more=more: statement.update({name: statement[name] + more}))
    for name in ("used", "totals", "before", "baseline"):
        assert _forged(
            honest, lambda statement, name=name: statement[name].update(uptime=statement[name]["uptime"] + 1)
        )
    assert _forged(honest, lambda statement: statement["price_list"]["nano_usd_per_unit"].update(uptime=10**9))
    assert _forged(honest, lambda statement: statement["price_list"].update(sha256="00" * 32))
    assert _forged(honest, lambda statement: statement.update(usd_per_ntc="0.300000001"))
    assert _forged(
        honest, lambda statement: statement["readings"]["uptime"].update(now=statement["readings"]["uptime"]["before"])
    )
    assert _forged(honest, lambda statement: statement.update(device_key="A" * 43))
    assert _forged(honest, lambda statement: statement.update(lease_id=statement["device_id"]))


def _forged(honest: dict, lie) -> bool:
    proof = copy.deepcopy(honest)
    lie(proof["statement"])
    leaf = statement_leaf(sha256_hex(canonical_json(proof["statement"])))
    tree = MerkleTree([leaf, statement_leaf("11" * 32)])
    proof["epoch"] = {"number": 7, "usage_root": tree.root, "proof": ["0x" + one.hex() for one in tree.proof(leaf)]}
    report = look(proof, StubNode(tree.root))
    kinds = {kind for kind, _ in report.findings}
    return report.exit_code == EXIT_FALSE and FALSE in kinds


def test_flipping_any_byte_is_caught(charged, cast):
    proof, node = settled_file(line(1, cast.publisher), cast.publisher)
    data = canonical_json(proof)
    dice = random.Random(3)
    places = dice.sample(range(len(data)), 400)
    for place in places:
        flipped = data[:place] + bytes([data[place] ^ (1 << dice.randrange(8))]) + data[place + 1 :]
        try:
            code = examine(flipped, Question(node=node)).exit_code
        except documents.Unreadable:
            continue
        assert code != EXIT_PROVEN, data[place - 20 : place + 20]


def test_a_capped_reading_is_proven_and_said(charged, device, cast):
    lease = charged
    device.measures(lease, uptime=400 * 24 * HOUR)
    charging.charge_new_readings()
    proof, node = settled_file(line(3, cast.publisher), cast.publisher)
    report = look(proof, node)
    assert report.exit_code == EXIT_PROVEN, report.text()
    assert any("allowed only" in words for words in report.trusted)
    device.measures(lease, transfer=3 * 10**9)
    charging.charge_new_readings()
    proof, node = settled_file(line(4, cast.publisher), cast.publisher)
    assert look(proof, node).exit_code == EXIT_PROVEN


def test_active_users_are_not_claimed_to_be_proven(charged, device, cast):
    at = timezone.now()
    raise_totals([Total(charged.pk, Meter.ACTIVE_USER, 5, "gateway", at)])
    charging.charge_new_readings()
    proof, node = settled_file(line(3, cast.publisher), cast.publisher)
    report = look(proof, node)
    assert report.exit_code == EXIT_PROVEN
    assert any("counted by the gateway" in words for words in report.trusted)
    assert not any("active_user" in words for kind, words in report.findings)


def test_owner_and_publisher_and_staff_may_have_it_and_the_stranger_not(client, charged, cast):
    of_publisher, of_owner = line(0, cast.publisher), line(0, cast.owner, "earnings_held")
    for person, entry in ((cast.publisher, of_publisher), (cast.owner, of_owner), (cast.staff, of_owner)):
        client.force_login(person)
        answer = client.get(reverse("bill_proof", args=[entry.pk]))
        assert answer.status_code == 200
        assert "attachment" in answer["Content-Disposition"]
        assert examine(answer.content, Question()).exit_code == EXIT_MISSING
    for person, entry in ((cast.publisher, of_owner), (cast.owner, of_publisher), (cast.stranger, of_owner)):
        client.force_login(person)
        assert client.get(reverse("bill_proof", args=[entry.pk])).status_code == 404
    client.logout()
    assert client.get(reverse("bill_proof", args=[of_owner.pk])).status_code == 302


def test_a_line_that_is_no_use_has_no_proof(charged, cast):
    deposit = Entry.objects.filter(account__user=cast.publisher, transaction__kind="deposit").first()
    with pytest.raises(NoStatement):
        billing_proofs.of_line(entry_id=deposit.pk, by=cast.publisher)
    with pytest.raises(NotFound):
        billing_proofs.of_line(entry_id=10**9, by=cast.publisher)


def test_a_statement_of_before_says_that_it_is_too_old(charged, cast):
    proof = billing_proofs.of_line(entry_id=line(0, cast.publisher).pk, by=cast.publisher)
    proof.document["version"] = 1
    with pytest.raises(bill_proofs.TooOld):
        bill_proofs.document(proof)


def test_the_published_price_list_has_the_hash_of_the_statement(client, charged):
    stated = json.loads(UsageStatement.objects.first().document)["price_list"]
    answer = client.get(reverse("price_list_document", args=[stated["region"], stated["version"]]))
    assert sha256_hex(answer.content) == stated["sha256"]
    assert client.get(reverse("price_list_document", args=["us", 99])).status_code == 404
