"""Reserve snapshots: everybody is counted, each can prove it, nobody sees another, and the root goes onto the chain."""

from __future__ import annotations

import copy
from datetime import timedelta

import pytest
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st
from interchain_verify import documents, settled
from interchain_verify import reserves as verifier
from interchain_verify.cli import examine
from interchain_verify.report import EXIT_FALSE, EXIT_MISSING, EXIT_PROVEN, FALSE, PROVEN
from interchain_verify.rpc import Node
from interchain_verify.settled import Question

from billing.chain.merkle import statement_leaf
from billing.models import ReserveLeaf, ReserveSnapshot, UsageStatement
from billing.services import accounts, ledger, reserves
from billing.services.ledger import Line, Posting
from interchain_site.core.canonical import canonical_json
from interchain_site.core.models import User

NTC = 10**9


@pytest.fixture
def owed(cast, now):
    """Publisher 7 available and 2 frozen, owner 3.5 in two kinds, buyer owes 1; commission 0.25, desk 100."""
    moves = [
        ("desk_inventory", None, 100 * NTC),
        ("available", cast.publisher, 7 * NTC),
        ("frozen", cast.publisher, 2 * NTC),
        ("earnings_held", cast.owner, 3 * NTC),
        ("settled", cast.owner, NTC // 2),
        ("commission", None, NTC // 4),
        ("shortfall", cast.buyer, -NTC),
    ]
    lines = [
        Line(accounts.user_account(person.pk, kind) if person else accounts.platform_account(kind), units)
        for kind, person, units in moves
    ]
    lines.append(Line(accounts.platform_account("escrow"), -sum(units for _, _, units in moves)))
    ledger.post(postings=[Posting("owed", "test", tuple(lines), now)], now=now)


@pytest.fixture
def snapshot(owed, now) -> ReserveSnapshot:
    return reserves.take_snapshot(now=now, chain=None)


def proof_of(person) -> bytes:
    return canonical_json(reserves.proof(user=person))


def test_it_counts_everybody_and_nets_nothing(snapshot):
    assert snapshot.people_units == 12 * NTC + NTC // 2
    assert snapshot.platform == {"commission": NTC // 4, "desk_inventory": 100 * NTC}
    assert snapshot.debts_units == NTC
    assert snapshot.owed_units == 111 * NTC + 3 * NTC // 4
    assert snapshot.people == User.objects.count()
    assert not snapshot.is_covered


def test_everybody_can_prove_their_balance_the_stranger_too(snapshot, cast):
    for person, units in ((cast.publisher, 9 * NTC), (cast.owner, 3 * NTC + NTC // 2), (cast.stranger, 0)):
        report = examine(proof_of(person), Question())
        assert report.exit_code == EXIT_MISSING  # not settled yet
        kinds = [kind for kind, _ in report.findings]
        assert kinds[:2] == [PROVEN, PROVEN]
        assert f"{units // NTC}.{units % NTC:09d} NTC owed to {person.email}" in report.findings[0][1]


def test_a_proof_names_nobody_else(snapshot, cast):
    text = proof_of(cast.publisher).decode()
    for person in (cast.owner, cast.buyer, cast.stranger, cast.staff):
        assert person.email not in text


def test_balances_are_cut_anew_each_time(snapshot, cast, now):
    first = list(ReserveLeaf.objects.filter(user=cast.publisher).values_list("units", flat=True))
    again = reserves.take_snapshot(now=now + timedelta(days=1), chain=None)
    second = list(again.leaves.filter(user=cast.publisher).values_list("units", flat=True))
    assert sum(first) == sum(second) == 9 * NTC
    assert sorted(first) != sorted(second)
    assert len(set(ReserveLeaf.objects.values_list("salt", flat=True))) == ReserveLeaf.objects.count()


def test_every_field_tampered_with_is_caught(snapshot, cast):
    proof = reserves.proof(user=cast.publisher)
    honest = [kind for kind, _ in examine(canonical_json(proof), Question()).findings]
    assert FALSE not in honest
    count = 0
    for path, value in list(_leaves(proof["parts"])):
        for lie in (
            (value + 1, value - 1) if isinstance(value, int) else (value[:-1] + chr(ord(value[-1]) ^ 1), value + "0")
        ):
            copied = copy.deepcopy(proof)
            at = copied["parts"]
            for step in path[:-1]:
                at = at[step]
            at[path[-1]] = lie
            count += 1
            try:
                assert examine(canonical_json(copied), Question()).exit_code == EXIT_FALSE, (path, value, lie)
            except documents.Unreadable:
                continue
    assert count > 60


def test_leaving_a_part_out_or_showing_it_twice_is_caught(snapshot, cast):
    proof = reserves.proof(user=cast.publisher)
    for parts in (proof["parts"][:-1], [*proof["parts"][:-1], proof["parts"][0]], proof["parts"] + proof["parts"][:1]):
        assert examine(canonical_json({**proof, "parts": parts}), Question()).exit_code == EXIT_FALSE


def test_another_persons_leaves_do_not_pass_for_mine(snapshot, cast):
    mine, other = reserves.proof(user=cast.publisher), reserves.proof(user=cast.owner)
    mine["parts"][0] = other["parts"][0]
    assert examine(canonical_json(mine), Question()).exit_code == EXIT_FALSE


def test_it_says_that_the_contract_is_to_be_compared(snapshot, cast, monkeypatch):
    """A file may name any contract that plays Settlement and holds any token: who does not say which one is told so."""
    proof = reserves.proof(user=cast.publisher)
    digest = statement_leaf(documents.sha256_hex(proof["statement"]))
    contract = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
    proof["epoch"] = {"number": 1, "usage_root": "0x" + digest.hex(), "proof": []}
    proof["chain"] = {"chain_id": 1, "settlement": contract, "block_number": 1, "transaction": "0x" + "11" * 32}
    monkeypatch.setattr(settled, "_is_on_chain", lambda *_: True)
    monkeypatch.setattr(verifier, "contract_units", lambda *_: 10**18)
    node = Node("http://127.0.0.1:1")
    report = examine(canonical_json(proof), Question(node=node))
    assert report.exit_code == EXIT_PROVEN, report.text()
    assert any(contract.lower() in words for words in report.trusted)
    known = examine(canonical_json(proof), Question(node=node, settlement=contract.lower()))
    assert not any(contract.lower() in words for words in known.trusted)


def test_who_joined_later_waits_for_the_next(snapshot, now):
    late = User.objects.create_user("late@example.com")
    with pytest.raises(reserves.NoSnapshot):
        reserves.proof(user=late)
    reserves.take_snapshot(now=now + timedelta(days=1), chain=None)
    assert reserves.proof(user=late)["parts"]


def test_old_leaves_go_and_old_roots_stay(snapshot, settings, now):
    settings.RESERVES_KEEP = 2
    for day in (1, 2):
        reserves.take_snapshot(now=now + timedelta(days=day), chain=None)
    assert ReserveSnapshot.objects.count() == 3
    assert not snapshot.leaves.exists()
    assert ReserveLeaf.objects.values("snapshot").distinct().count() == 2


def test_its_statement_waits_for_the_next_epoch(snapshot):
    statement = UsageStatement.objects.get(key=snapshot.statement_key)
    assert statement.epoch is None
    assert f'"root":"{snapshot.root}"' in statement.document


def test_it_is_due_once_a_day(settings, cast, now):
    assert reserves.is_due(now=now)
    reserves.take_snapshot(now=now, chain=None)
    assert not reserves.is_due(now=now + timedelta(seconds=settings.RESERVES_SECONDS - 1))
    assert reserves.is_due(now=now + timedelta(seconds=settings.RESERVES_SECONDS))


@given(st.integers(min_value=0, max_value=25 * 10**15))
def test_parts_are_whole_not_negative_and_all_of_it(units):
    parts = reserves._cut(units)
    assert len(parts) == reserves.PARTS
    assert min(parts) >= 0
    assert sum(parts) == units


def test_rows_that_were_changed_give_no_proof(snapshot, cast):
    row = ReserveLeaf.objects.filter(user=cast.publisher).first()
    ReserveLeaf.objects.filter(pk=row.pk).update(units=row.units + 1)
    reserves._tree.cache_clear()
    with pytest.raises(ValueError, match="do not give its root"):
        reserves.proof(user=cast.publisher)


def test_the_page_is_public_and_says_what_is_owed(client, snapshot, cast, django_assert_max_num_queries):
    with django_assert_max_num_queries(6):
        page = client.get(reverse("reserves"))
    text = page.content.decode()
    assert "12.50 NTC" in text
    assert snapshot.root in text
    assert "Sign in for your proof" in text
    assert "could not be read" in text
    client.force_login(cast.publisher)
    assert "Download the proof of your balance" in client.get(reverse("reserves")).content.decode()
    answer = client.get(reverse("reserves_proof"))
    assert examine(answer.content, Question()).exit_code == EXIT_MISSING


def test_the_page_without_any_snapshot(client, db):
    assert "No snapshot yet" in client.get(reverse("reserves")).content.decode()


def test_the_program_is_served_and_runs(client, db, snapshot, cast, tmp_path):
    import subprocess
    import sys

    program, file = tmp_path / "interchain-verify.pyz", tmp_path / "proof.json"
    program.write_bytes(client.get(reverse("verifier")).content)
    file.write_bytes(proof_of(cast.owner))
    run = subprocess.run([sys.executable, "-I", program, file], capture_output=True, text=True, check=False)
    assert run.returncode == EXIT_MISSING, run.stderr
    assert "PROVEN   Your balance: 3.500000000 NTC" in run.stdout
    file.write_bytes(proof_of(cast.owner) + b" ")
    assert subprocess.run([sys.executable, "-I", program, file], capture_output=True, check=False).returncode == 2


def test_a_tree_that_does_not_sum_is_never_published(owed, now, monkeypatch):
    monkeypatch.setattr(reserves, "_cut", lambda units: [units, 1, 0])
    with pytest.raises(ValueError, match="not what people are owed"):
        reserves.take_snapshot(now=now, chain=None)
    assert not ReserveSnapshot.objects.exists()


def _leaves(value, path=()):
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _leaves(one, (*path, name))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from _leaves(one, (*path, place))
    else:
        yield path, value
