"""docs/sandbox.md says what the tests try."""

from __future__ import annotations

from nodes.agent.tests.probes import page
from nodes.agent.tests.probes.table import ESCAPES
from nodes.agent.tests.probes.weakened import WEAKENINGS


def test_the_page_is_current() -> None:
    assert page.PAGE.read_text() == page.page(), "type: python -m nodes.agent.tests.probes.page"


def test_every_name_is_one_probe() -> None:
    names = [probe.name for probe in ESCAPES]
    assert len(set(names)) == len(names)
    assert {name for weakening in WEAKENINGS for name in weakening.probes} <= set(names)
