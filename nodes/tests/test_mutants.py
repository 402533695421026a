"""The table of deliberate mistakes can be tried as it stands: each fits the sources, names tests that are there, and is on the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nodes.tests.mutants import INTERLEAVINGS, MUTANTS, Mutant, mutated

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "mutation-tests.md"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_can_be_made_and_its_test_is_there(mutant: Mutant) -> None:
    source = (ROOT / mutant.path).read_text()
    compile(mutated(mutant, source), mutant.path, "exec")
    path, _, test = mutant.caught_by.partition("::")
    name, _, case = test.partition("[")
    text = (ROOT / path).read_text()
    assert not name or f"def {name}(" in text
    assert path != INTERLEAVINGS or f"def {case.rstrip(']')}(" in text


def test_the_page_lists_them_all() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| `(\S+)` \|$", PAGE.read_text(), re.M)
    assert rows == [(mutant.name, mutant.broken, mutant.caught_by.rpartition("/")[2]) for mutant in MUTANTS]
