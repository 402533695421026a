"""What the client remembers, and what it does with nodes that lie, hang or are not there."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from interchain_connect import cli, trust
from interchain_connect.resolve import Resolver
from interchain_connect.trust import Known, Unusable

from interchain_site.testing.servers import free_port
from nodes.agent import keys, records
from nodes.agent.contact import Contact
from nodes.agent.directory_store import Store
from nodes.agent.gossip import Answers
from nodes.agent.records import KeyChange, Record
from nodes.agent.small_http import SmallServer
from nodes.agent.tests.test_directory import liar

GOOD, EVIL = "127.0.0.1:2000", "127.9.9.9:666"


@pytest.fixture(autouse=True)
def _real_redis() -> None:
    """The client knows no Redis; this replaces the site's fixture of the same name."""


@pytest.fixture
def key(tmp_path: Path) -> keys.DeviceKey:
    return keys.create(tmp_path / "key")


def record(key: keys.DeviceKey, sequence: int, endpoint: str, *, life: int = 3600) -> str:
    now = int(time.time())
    said = Record("blog", "w-blog", sequence, (endpoint,), sequence, now - 10, now - 10 + life, (sequence,), (0,))
    return records.sign(said, key)


@pytest.fixture
def honest(tmp_path: Path, key: keys.DeviceKey):
    kept = Store(tmp_path / "node.sqlite3", key=key.public_x)
    heard = []
    server = SmallServer("127.0.0.1", 0, Answers(kept, Contact(), device_id="d", suspect=heard.append))
    server.start()
    kept.heard = heard
    kept.address = f"127.0.0.1:{server.port}"
    yield kept
    server.stop()


def known(key: keys.DeviceKey, *seeds: str, memory: Path | None = None) -> Known:
    return Known({"format": trust.FORMAT, "key": key.public_x, "seeds": list(seeds)}, memory)


def refreshed(given: Known) -> tuple[str, ...]:
    found = asyncio.run(Resolver(given, "blog").refresh())
    return found.endpoints if found is not None else ()


@pytest.mark.parametrize("mode", ["forged", "wrong", "old", "garbage", "endless", "slow"])
def test_a_lie_beside_one_honest_node_is_never_believed(key, honest, mode):
    old = record(key, 1, EVIL)
    honest.put(record(key, 2, GOOD))
    with liar(mode, old) as address:
        for _ in range(3):  # whoever is asked first
            assert refreshed(known(key, address, honest.address)) == (GOOD,)


@pytest.mark.parametrize("mode", ["forged", "wrong", "garbage"])
def test_liars_alone_are_not_believed(key, mode):
    with liar(mode, record(key, 1, EVIL)) as address:
        assert refreshed(known(key, address)) == ()


def test_it_never_goes_back_though_it_was_started_anew(key, honest, tmp_path):
    memory = tmp_path / "memory.json"
    honest.put(record(key, 5, GOOD))
    assert refreshed(known(key, honest.address, memory=memory)) == (GOOD,)
    with liar("old", record(key, 4, EVIL)) as address:
        again = known(key, address, memory=memory)
        assert refreshed(again) == (GOOD,)
    nobody = known(key, f"127.0.0.1:{free_port()}", memory=memory)
    assert refreshed(nobody) == (GOOD,)  # and needs no node for it


def test_what_is_over_is_not_used(key, honest, tmp_path):
    memory = tmp_path / "memory.json"
    short = record(key, 5, GOOD, life=12)
    honest.put(short)
    given = known(key, honest.address, memory=memory)
    assert refreshed(given) == (GOOD,)
    time.sleep(3)
    assert refreshed(given) == ()
    assert refreshed(known(key, memory=memory)) == ()


def test_memory_of_another_key_or_edited_memory_is_not_believed(key, tmp_path):
    other, memory = keys.create(tmp_path / "other"), tmp_path / "memory.json"
    forged = record(other, 9, EVIL)
    for first in (other.public_x, key.public_x):
        memory.write_text(json.dumps({"key": first, "statements": [], "learnt": [], "records": [forged]}))
        assert known(key, memory=memory).newest == {}
    memory.write_text("[" * 100_000)
    assert known(key, memory=memory).newest == {}


def test_it_follows_the_directory_to_its_next_key(key, honest, tmp_path):
    new = keys.create(tmp_path / "new")
    honest.learn_keys("", [records.sign(KeyChange(key.public_x, new.public_x, 0), key)])
    honest.put(record(new, 3, GOOD))
    given = known(key, honest.address)
    assert refreshed(given) == (GOOD,)
    with liar("old", record(key, 9, EVIL)) as address:  # the old key says nothing any more
        given.seeds = [address]
        assert refreshed(given) == (GOOD,)


def test_a_dead_endpoint_is_reported_to_a_node(key, honest):
    honest.put(record(key, 2, GOOD))
    given = known(key, honest.address)
    asyncio.run(Resolver(given, "blog").refresh())
    asyncio.run(Resolver(given, "blog").suspect(GOOD))
    assert [(said.workload_id, said.endpoint) for said in honest.heard] == [("w-blog", GOOD)]


def test_a_signed_list_of_nodes_is_learnt_and_another_is_not(key, honest, tmp_path):
    now, other = int(time.time()), keys.create(tmp_path / "other")
    given = known(key, honest.address)
    for signer, expected in ((other, []), (key, ["127.0.0.1:7"])):
        honest.set_fact("nodes", records.sign(records.NodeList(("127.0.0.1:7",), now, now + 60), signer))
        asyncio.run(Resolver(given, "blog").learn_nodes())
        assert given.learnt == expected


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "interchain-trust-1"}', '{"format": "x", "key": "y"}'])
def test_what_is_no_trust_file_is_refused_in_words(tmp_path, text, capsys):
    path = tmp_path / "trust.json"
    path.write_text(text)
    with pytest.raises(Unusable):
        trust.load(path)
    assert cli.main(["resolve", "blog", "--trust", str(path)]) == 2
    assert "trust.json" in capsys.readouterr().err


@pytest.fixture
def portal(key, honest):
    """A portal that hands the trust file out, and counts how often."""
    document = {"format": trust.FORMAT, "key": key.public_x, "seeds": [honest.address]}
    asked = []

    def answer(method: str, path: str, body: bytes, who: str):
        asked.append(path)
        return (200, document) if path == "/directory/trust.json" else (404, None)

    server = SmallServer("127.0.0.1", 0, answer)
    server.start()
    yield f"http://127.0.0.1:{server.port}", asked
    server.stop()


def test_one_line_fetches_the_trust_file_at_its_first_use_only(key, honest, portal, tmp_path, capsys):
    url, asked = portal
    honest.put(record(key, 2, GOOD))
    line = ["resolve", "blog", "--portal", url, "--trust", str(tmp_path / "config" / "trust.json")]
    assert [cli.main(line), cli.main(line)] == [0, 0]
    assert asked.count("/directory/trust.json") == 1, "a key once kept is never exchanged for what a portal says later"
    assert capsys.readouterr().out == f"{GOOD}\n" * 2
    elsewhere = [*line[:-1], str(tmp_path / "other.json")]
    assert cli.main([*elsewhere[:3], "http://127.0.0.1:1", *elsewhere[4:]]) == 2
    assert cli.main([*elsewhere[:3], "file:///etc", *elsewhere[4:]]) == 2
    assert cli.main(elsewhere[:2] + elsewhere[4:]) == 2


def test_resolve_on_the_command_line(key, honest, tmp_path, capsys):
    honest.put(record(key, 2, GOOD))
    path = tmp_path / "trust.json"
    path.write_text(json.dumps({"format": trust.FORMAT, "key": key.public_x, "seeds": [honest.address]}))
    assert cli.main(["resolve", "blog", "--trust", str(path)]) == 0
    assert capsys.readouterr().out == f"{GOOD}\n"
    assert cli.main(["resolve", "nothing", "--trust", str(path)]) == 1
