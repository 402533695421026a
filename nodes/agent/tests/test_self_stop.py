"""When a device that lost the portal stops its leases, and when it goes on: every rule, by its number."""

from __future__ import annotations

import dataclasses
import time

import pytest

from nodes.agent import self_stop
from nodes.agent.protocol import Action, Desired
from nodes.agent.records import Record
from nodes.agent.self_stop import Peer, decide
from nodes.agent.tests.conftest import lease, workload

NOW = 1000.0
APP = lease(workload(), generation=3, lease_id="app")
STOPPED = lease(workload(), action=Action.STOP, lease_id="stopped")
LIVE = Peer(NOW - 2, NOW - 4)  # answered just now, and reaches the portal
BLIND = Peer(NOW - 2, NOW - 60)  # answered just now, and lost the portal when we did
DEAD = Peer(NOW - 100, NOW - 100)


def record(generation: int, *served: "tuple[int, int]") -> "dict[str, Record]":
    """A record that names (slot, generation) of each endpoint."""
    found = Record(
        "blog",
        APP.workload.id,
        generation,
        tuple(f"10.0.0.{slot}:2000" for slot, _ in served),
        1,
        0,
        1,
        tuple(generation for _, generation in served),
        tuple(slot for slot, _ in served),
    )
    return {APP.workload.id: found}


@pytest.mark.parametrize(
    ("rule", "stops", "given"),
    [
        ("1 never", False, {"self_stop_seconds": 0, "peers": [DEAD]}),
        ("2 heard", False, {"portal_answered_at": NOW - 29, "peers": [DEAD]}),
        ("3 alone", False, {"peers": []}),
        ("4 cut off", True, {"peers": [DEAD, Peer()]}),
        ("4 one is enough", False, {"peers": [DEAD, BLIND]}),
        ("5 the cut is ours", True, {"peers": [LIVE, LIVE, BLIND]}),
        ("5 half is no majority", False, {"peers": [LIVE, BLIND]}),
        ("5 a minority lies", False, {"peers": [LIVE, LIVE, BLIND, BLIND, BLIND]}),
        ("5 the dead have no say", True, {"peers": [LIVE, DEAD, DEAD]}),
        ("5 a peer that never heard it", False, {"peers": [Peer(NOW - 2)]}),
        (
            "5 heard before we missed it",
            False,
            {"peers": [Peer(NOW - 2, NOW - 25.5)], "portal_failing_since": NOW - 25},
        ),
        (
            "5 the portal took seconds to stop",
            False,
            {"peers": [Peer(NOW - 2, NOW - 22)], "portal_failing_since": NOW - 25},
        ),
        ("5 asked once more, it answers", False, {"peers": [LIVE], "portal_reached_at": NOW - 1}),
        ("5 it answered long ago", True, {"peers": [LIVE], "portal_reached_at": NOW - 30}),
        (
            "6 it answers, and another has the slot",
            True,
            {"peers": [LIVE], "portal_reached_at": NOW - 1, "records": record(4, (0, 4))},
        ),
        ("6 down for all", False, {"peers": [BLIND]}),
        ("6 replaced in its slot", True, {"peers": [BLIND], "records": record(4, (0, 4))}),
        ("6 another slot moved", False, {"peers": [BLIND], "records": record(4, (1, 4))}),
        ("6 still named", False, {"peers": [BLIND], "records": record(4, (0, 3), (1, 4))}),
        ("6 nobody serves", False, {"peers": [BLIND], "records": record(4)}),
        ("6 older", False, {"peers": [BLIND], "records": record(3, (0, 2))}),
        ("2 before 6", False, {"portal_answered_at": NOW, "peers": [BLIND], "records": record(4, (0, 4))}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rules(rule: str, stops: bool, given: "dict[str, object]") -> None:
    usual = {
        "now": NOW,
        "self_stop_seconds": 30,
        "portal_answered_at": NOW - 60,
        "portal_failing_since": NOW - 50,
        "leases": [APP, STOPPED],
        "records": {},
    }
    decision = decide(**{**usual, **given})  # type: ignore[arg-type]
    assert decision.lease_ids == (frozenset({"app"}) if stops else frozenset())
    assert bool(decision.why) is stops
    assert decision.by_peers is (stops and rule.startswith("5"))


def test_what_is_held_is_stopped_and_nothing_else_changes() -> None:
    desired = Desired((APP, STOPPED), poll_interval_seconds=7)
    held = self_stop.without(desired, frozenset({"app"}))
    assert [one.action for one in held.leases] == [Action.STOP, Action.STOP]
    assert held.leases[0] == dataclasses.replace(APP, action=Action.STOP)
    assert held.poll_interval_seconds == 7
    assert self_stop.without(desired, frozenset()) is desired


def test_contact_tells_silence_from_a_start() -> None:
    from nodes.agent.contact import Contact

    contact, told = Contact(), []
    contact.on_informed = lambda: told.append(1)
    assert not contact.ever_answered
    contact.failed()
    first = contact.failing_since
    time.sleep(0.01)
    contact.failed()
    assert contact.failing_since == first
    contact.answered()
    assert (contact.failing_since, told) == (None, [])
    contact.informed()
    assert told == [1]
