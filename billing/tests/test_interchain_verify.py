"""interchain-verify against a real chain: statements and reserves settled through the real contract, and every lie about it."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import interchain_verify
import pytest
from interchain_verify import documents
from interchain_verify.cli import examine
from interchain_verify.report import EXIT_FALSE, EXIT_MISSING, EXIT_PROVEN, PROVEN, Report
from interchain_verify.rpc import Node
from interchain_verify.settled import Question, check

from billing.services import bill_proofs, reserves
from interchain_site.core.canonical import canonical_json

pytestmark = [pytest.mark.anvil, pytest.mark.verification]
SOURCES = Path(interchain_verify.__file__).parent.parent


@pytest.fixture
def settled(real, cast):
    """An owner earned, three statements and a reserve snapshot were settled in epoch 1."""
    real.earn(cast.owner, 5)
    real.link(cast.owner)
    for number in range(3):
        real.use(what=number)
    reserves.take_snapshot(now=real.now, chain=real.chain)
    real.settle()
    return real


def asked(world, **changes) -> Question:
    return Question(node=Node(world.node.url), **{"confirmations": 1, **changes})


def statement_file(key: str = "used:3") -> dict[str, Any]:
    found = bill_proofs.of_statement(key)
    return {"statement": found.document, "epoch": found.epoch, "chain": found.chain}


def look(proof: dict[str, Any], question: Question) -> Report:
    report = Report("")
    check(proof, question, report)
    return report


def test_a_statement_settled_by_the_contract_is_proven(settled):
    proof = statement_file()
    report = look(proof, asked(settled))
    assert report.exit_code == EXIT_PROVEN, report.text()
    assert [kind for kind, _ in report.findings] == [PROVEN] * 3
    assert proof["chain"]["settlement"] == settled.deployment.settlement


def test_every_lie_about_the_chain_is_caught(settled):
    honest = statement_file()
    other = "0x" + "77" * 32
    lies = [
        ("statement", "number", 99),
        ("epoch", "number", 2),
        ("epoch", "usage_root", other),
        ("epoch", "proof", honest["epoch"]["proof"][1:]),
        ("epoch", "proof", [*honest["epoch"]["proof"], other]),
        ("chain", "chain_id", 1),
        ("chain", "settlement", settled.deployment.intercoin),
        ("chain", "block_number", honest["chain"]["block_number"] - 1),
        ("chain", "transaction", other),
    ]
    for part, name, lie in lies:
        proof = copy.deepcopy(honest)
        proof[part][name] = lie
        assert look(proof, asked(settled)).exit_code == EXIT_FALSE, (part, name)


def test_the_wrong_transaction_of_the_right_contract_is_caught(settled, cast):
    settled.use(what="later")
    epoch = settled.settle()
    proof = statement_file()
    proof["chain"]["transaction"] = epoch.posting.mined_hash
    assert look(proof, asked(settled)).exit_code == EXIT_FALSE


def test_it_must_be_deep_enough(settled):
    assert look(statement_file(), asked(settled, confirmations=1_000)).exit_code == EXIT_MISSING
    settled.node.mine(20)
    assert look(statement_file(), asked(settled, confirmations=12)).exit_code == EXIT_PROVEN


def test_a_node_that_does_not_answer_proves_nothing(settled):
    question = Question(node=Node("http://127.0.0.1:9"), confirmations=1)
    assert look(statement_file(), question).exit_code == EXIT_MISSING


def test_a_reserves_proof_is_checked_down_to_the_tokens_in_the_contract(settled, cast):
    data = canonical_json(reserves.proof(user=cast.owner))
    report = examine(data, asked(settled))
    assert report.exit_code == EXIT_PROVEN, report.text()
    words = " ".join(report.text().split())
    assert "5.000000000 NTC owed to owner@example.com" in words
    assert "the contract holds" in words


def test_any_flipped_byte_of_a_reserves_proof_is_caught(settled, cast):
    import random

    data = canonical_json(reserves.proof(user=cast.owner))
    dice = random.Random(31337)
    for place in dice.sample(range(len(data)), 150):
        flipped = data[:place] + bytes([data[place] ^ (1 << dice.randrange(8))]) + data[place + 1 :]
        try:
            assert examine(flipped, asked(settled)).exit_code == EXIT_FALSE, data[place - 30 : place + 30]
        except documents.Unreadable:
            continue


def test_the_program_itself_on_the_command_line(settled, cast, tmp_path):
    file = tmp_path / "proof.json"
    file.write_bytes(canonical_json(reserves.proof(user=cast.owner)))
    words = [sys.executable, "-m", "interchain_verify", file, "--rpc", settled.node.url, "--confirmations", "1"]
    right = [*words, "--settlement", settled.deployment.settlement]
    done = subprocess.run(right, cwd=SOURCES, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_PROVEN, done.stdout + done.stderr
    assert "Everything that can be proven is proven." in done.stdout
    wrong = [*words, "--settlement", settled.deployment.intercoin]
    done = subprocess.run(wrong, cwd=SOURCES, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_FALSE
    assert "NOT PROVEN" in done.stdout
