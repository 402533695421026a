"""The client and the agent take the same records and refuse the same ones: each row is shown to both."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from interchain_connect import records as client
from nacl.signing import SigningKey

from nodes.agent import jws, keys
from nodes.agent import records as agent
from nodes.agent.records import KeyChange, NodeList, Record, Stale

NOW = int(time.time())
GOOD = {
    "name": "blog", "workload_id": "w", "generation": 2, "endpoints": ["10.0.0.1:2000", "[2001:db8::1]:2000", "a.example:1"],
    "sequence": 7, "issued": NOW, "expires": NOW + 60, "generations": [1, 2, 2], "slots": [0, 1, 2], "wiped": False,
    "kind": "directory-record",
}  # fmt: skip
BAD = {
    "another kind": {"kind": "directory-nodes"},
    "no label": {"name": "Blog"},
    "an empty name": {"name": ""},
    "a name that is a number": {"name": 7},
    "generation zero": {"generation": 0},
    "sequence true": {"sequence": True},
    "sequence a fraction": {"sequence": 7.5},
    "port too high": {"endpoints": ["10.0.0.1:70000"]},
    "port zero": {"endpoints": ["10.0.0.1:0"]},
    "no port": {"endpoints": ["10.0.0.1"]},
    "a path": {"endpoints": ["10.0.0.1/x:1"]},
    "endpoints a text": {"endpoints": "10.0.0.1:1"},
    "too many": {"endpoints": ["10.0.0.1:1"] * 17},
    "over": {"issued": NOW - 60, "expires": NOW},
    "from the future": {"issued": NOW + 400, "expires": NOW + 500},
    "for a year": {"expires": NOW + 366 * 86_400},
    "ends before it begins": {"issued": NOW + 100, "expires": NOW + 50},
    "wiped a number": {"wiped": 1},
}


@pytest.fixture
def key(tmp_path: Path) -> keys.DeviceKey:
    return keys.create(tmp_path / "key")


def signed(key: keys.DeviceKey, **changes: object) -> str:
    return key.sign(json.dumps({**GOOD, **changes}, sort_keys=True, separators=(",", ":")).encode())


def test_both_take_a_good_one_and_what_is_unknown_does_not_matter(key):
    for compact in (signed(key), signed(key, more="of it"), signed(key, endpoints=[], wiped=True)):
        ours, theirs = client.read(compact, (key.public_x,), NOW), agent.read(compact, (key.public_x,), NOW)
        for name in ("name", "workload_id", "generation", "endpoints", "sequence", "issued", "expires", "wiped"):
            assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD.keys())
def test_both_refuse(key, changes):
    compact = signed(key, **changes)
    with pytest.raises(client.BadRecord):
        client.read(compact, (key.public_x,), NOW)
    with pytest.raises((agent.BadRecord, Stale)):
        agent.read(compact, (key.public_x,), NOW)


def test_both_refuse_every_other_form_of_a_signature(key):
    good = signed(key)
    head, payload, signature = good.split(".")
    other_header = jws.encode(b'{"alg":"none"}')
    for compact in (
        "", "a.b", "a.b.c", good + ".x", f"{head}.{payload}.", f"{other_header}.{payload}.{signature}",
        f"{other_header}.{payload}.", f"{head}.{payload}=.{signature}", f"{head}.{payload}.{signature}A",
        jws.sign(jws.decode(payload), SigningKey.generate()), "ü" + good, good + "\n", "x" * 5000,
    ):  # fmt: skip
        with pytest.raises(client.BadRecord):
            client.read(compact, (key.public_x,), NOW)
        with pytest.raises(agent.BadRecord):
            agent.read(compact, (key.public_x,), NOW)


def test_both_put_two_records_in_the_same_order(key):
    rows = [(1, 5, "w"), (1, 6, "w"), (2, 6, "w"), (2, 5, "w"), (1, 9, "w"), (1, 9, "other"), (1, 3, "other")]
    made = [signed(key, generation=generation, sequence=sequence, workload_id=w) for generation, sequence, w in rows]
    ours = [client.read(compact, (key.public_x,), NOW) for compact in made]
    theirs = [agent.read(compact, (key.public_x,), NOW) for compact in made]
    for i in range(len(rows)):
        for j in range(len(rows)):
            assert client.supersedes(ours[i], ours[j]) == agent.supersedes(theirs[i], theirs[j])


def test_both_follow_the_same_keys(key, tmp_path):
    second, third = keys.create(tmp_path / "second"), keys.create(tmp_path / "third")
    said = [
        agent.sign(KeyChange(key.public_x, second.public_x, NOW + 50), key),
        agent.sign(KeyChange(key.public_x, third.public_x, NOW + 50), key),  # a second word of the same key
        agent.sign(KeyChange(second.public_x, third.public_x, NOW + 90), third),  # signed by the wrong one
    ]
    ours, theirs = client.Trust(key.public_x, said), agent.Trust(key.public_x, said)
    assert ours.statements == theirs.statements == said[:1]
    for now in (NOW, NOW + 49, NOW + 50):
        assert ours.keys(now) == theirs.keys(now)
    assert ours.keys(NOW + 50) == (second.public_x,)


def test_both_read_a_list_of_nodes(key):
    compact = agent.sign(NodeList(("10.0.0.1:19420",), NOW, NOW + 60), key)
    assert client.read_nodes(compact, (key.public_x,), NOW) == ("10.0.0.1:19420",)
    assert agent.read_nodes(compact, (key.public_x,), NOW).nodes == ("10.0.0.1:19420",)
    for wrong in (signed(key), agent.sign(NodeList(("x",), NOW, NOW + 60), key)):
        with pytest.raises(client.BadRecord):
            client.read_nodes(wrong, (key.public_x,), NOW)


def test_the_agents_record_is_what_this_file_calls_good(key):
    fields = set(Record.__dataclass_fields__)
    assert fields == set(GOOD)
