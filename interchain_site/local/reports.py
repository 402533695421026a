"""What the tests came to: junit files, and the sum that `bin/test` ends with."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

WORDS = {"failures": "FAILED", "second_time": "AGAIN", "skipped": "skipped"}
"""What the sum calls the tests an outcome has under these names."""


@dataclass
class Outcome:
    """What one suite came to. Tests are named as pytest names them on its command line."""

    name: str
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    second_time: list[str] = field(default_factory=list)


def read(name: str, report: Path, ours: str) -> Outcome:
    """Return the outcome in a junit file (pytest's `xunit1`); skips whose reason names `ours` do not count."""
    outcome = Outcome(name)
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed += 1
            outcome.failures.append(f"{case.get('file', '')}::{case.get('name')}")
        elif skip is None:
            outcome.passed += 1
        elif not (ours and ours in (skip.get("message") or "")):
            outcome.skipped.append(f"{case.get('classname')}::{case.get('name')}: {skip.get('message')}")
    return outcome


def with_second_try(first: Outcome, second: Outcome) -> Outcome:
    """Return `first` with those of its failures taken back that `second`, a run of these alone, saw pass.

    A run that ended without a report, or left any of them out, takes nothing back.
    """
    if second.passed + second.failed < len(first.failures):
        return first
    again = set(second.failures)
    mended = [test for test in first.failures if test not in again]
    first.failures = [test for test in first.failures if test in again]
    first.passed, first.failed = first.passed + len(mended), first.failed - len(mended)
    first.second_time = mended
    return first


def print_sum(outcomes: list[Outcome]) -> int:
    """Print one line per suite, what failed and what was skipped, by name, and the sum; return the exit code."""
    strict = os.environ.get("CI", "").lower() == "true"
    print()
    for outcome in outcomes:
        print(f"{outcome.name:<10} {outcome.passed:5d} passed {outcome.failed:4d} failed {outcome.seconds:7.1f} s")
    for what, word in WORDS.items():
        for outcome in outcomes:
            for line in getattr(outcome, what):
                print(f"{word:<10} {outcome.name}: {line}")
    failed, skipped = sum(outcome.failed for outcome in outcomes), sum(len(outcome.skipped) for outcome in outcomes)
    twice = sum(len(outcome.second_time) for outcome in outcomes)
    also = f", {twice} of them only the second time" if twice else ""
    left = f", {skipped} skipped" + (" (a failure under CI=true)" if strict else "") if skipped else ""
    print(f"{sum(outcome.passed for outcome in outcomes)} passed{also}, {failed} failed{left}")
    return 1 if failed or (strict and skipped) else 0
