"""A device does the work it is given in a process of its own, answers once, and is not kept busy by nonsense."""

from __future__ import annotations

import json
import threading

import pytest

from nodes.agent import benchmark
from nodes.agent.errors import PortalRefused, PortalUnreachable
from nodes.agent.protocol import SpotCheck
from nodes.agent.spot_checks import MOST_ROUNDS, SpotChecks

CHECK = SpotCheck("3a3b8f6e-0000-4000-8000-000000000001", "ab" * 32, 2)


class Sent:
    """Takes answers; fails as often as told before."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.answers, self.tries = list(failures), [], 0
        self.told = threading.Event()

    def __call__(self, jws: str) -> None:
        self.tries += 1
        try:
            if self.failures:
                raise self.failures.pop(0)
            self.answers.append(json.loads(jws))
        finally:
            self.told.set()


def make(sent: Sent) -> SpotChecks:
    return SpotChecks(device_id="d", sign=bytes.decode, send=sent)


def test_the_answer_is_the_work():
    sent = Sent()
    make(sent).want(CHECK)
    assert sent.told.wait(30)
    assert tuple(sent.answers[0]["digests"]) == benchmark.chain(CHECK.seed, CHECK.rounds)[0]
    assert sent.answers[0]["device_id"] == "d"


def test_it_is_worked_once_however_often_it_is_handed_out():
    sent = Sent()
    checks = make(sent)
    for _ in range(3):
        checks.want(CHECK)
    assert sent.told.wait(30)
    checks.want(CHECK)
    assert sent.tries == 1


@pytest.mark.parametrize(("error", "tries"), [(PortalUnreachable("away"), 2), (PortalRefused(409, "over", "over"), 1)])
def test_a_portal_out_of_reach_is_told_later_and_a_refusal_is_final(error, tries):
    sent = Sent(error)
    checks = make(sent)
    checks.want(CHECK)
    assert sent.told.wait(30)
    for thread in threading.enumerate():
        if thread.name == "spot-check":
            thread.join(30)
    sent.told.clear()
    checks.want(CHECK)
    if tries == 2:
        assert sent.told.wait(30)
    assert sent.tries == tries


@pytest.mark.parametrize(
    "check", [SpotCheck(), SpotCheck("x", "ab" * 32, 0), SpotCheck("x", "ab" * 32, MOST_ROUNDS + 1)]
)
def test_nothing_and_nonsense_are_passed_over(check):
    sent = Sent()
    make(sent).want(check)
    assert not any(thread.name == "spot-check" for thread in threading.enumerate())
    assert sent.tries == 0
