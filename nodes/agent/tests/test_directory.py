"""The directory between agents: honest ones come to agree, liars get nowhere, and nobody can hold an agent up.

Longer than 300 lines because liars and honest agents share one small network.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from interchain_site.testing.servers import free_port
from nodes.agent import keys, peer_http, records, small_http
from nodes.agent.contact import Contact
from nodes.agent.directory_store import Outcome, Store
from nodes.agent.gossip import Answers, Gossip
from nodes.agent.records import BadRecord, KeyChange, NodeList, Record, Suspicion
from nodes.agent.small_http import SmallServer
from nodes.agent.tests.conftest import ROOT


@pytest.fixture
def key(tmp_path: Path) -> keys.DeviceKey:
    return keys.create(tmp_path / "directory.key")


def signed(key: keys.DeviceKey, name: str = "blog", sequence: int = 1, **changes: object) -> str:
    now = int(time.time())
    usual = Record(name, f"w-{name}", 1, ("10.0.0.1:2000",), sequence, now, now + 3600, (1,), (0,))
    return records.sign(Record(**{**vars(usual), **changes}), key)  # type: ignore[arg-type]


def store(folder: Path, key: keys.DeviceKey, name: str = "store") -> Store:
    return Store(folder / f"{name}.sqlite3", key=key.public_x)


@contextmanager
def serving(of: Store, suspect: "object" = None) -> Iterator[str]:
    heard: list[Suspicion] = [] if suspect is None else suspect  # type: ignore[assignment]
    server = SmallServer("127.0.0.1", 0, Answers(of, Contact(), device_id="d", suspect=heard.append), per_second=1000)
    server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        server.stop()
        assert not server.is_alive()


@contextmanager
def liar(mode: str, record: str) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "nodes.agent.tests.lying_node", mode, "127.0.0.1", str(port), record]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            until = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < until
                    time.sleep(0.05)
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


# --- records ---------------------------------------------------------------------------------------------------------


def test_a_newer_record_takes_the_place_and_nothing_else_does(tmp_path, key):
    kept, other = store(tmp_path, key), keys.create(tmp_path / "other.key")
    assert kept.put(signed(key, sequence=5, generation=3)) is Outcome.TAKEN
    newest = kept.get("blog")
    assert kept.put(signed(key, sequence=5, generation=3)) is Outcome.KNOWN
    assert kept.put(signed(key, sequence=4, generation=3)) is Outcome.KNOWN
    assert kept.put(signed(key, sequence=9, generation=2)) is Outcome.KNOWN  # a generation never goes back
    now = int(time.time())
    assert kept.put(signed(key, sequence=9, issued=now - 100, expires=now - 1)) is Outcome.STALE
    for bad in (
        signed(other, sequence=9),
        signed(key, sequence=9, issued=now + 3600, expires=now + 7200),
        signed(key, sequence=9, expires=now + records.LONGEST_LIFE_SECONDS + 10),
        signed(key, sequence=9, endpoints=("10.0.0.1:99999",)),
        signed(key, sequence=9, endpoints=("x:1",) * 17),
        signed(key, sequence=9, name="Not A Label"),
        signed(key, sequence=9, kind="directory-key"),
        signed(key, sequence=9)[:-4] + "AAAA",
        "x" * 5000,
        "",
    ):
        with pytest.raises(BadRecord):
            kept.put(bad)
    assert kept.get("blog") == newest


def test_a_name_may_go_to_another_workload(tmp_path, key):
    kept = store(tmp_path, key)
    kept.put(signed(key, sequence=5, generation=3))
    assert kept.put(signed(key, sequence=6, generation=1, workload_id="another")) is Outcome.TAKEN


def test_what_is_over_is_not_served_and_is_forgotten(tmp_path, key):
    kept = store(tmp_path, key)
    kept.put(signed(key))
    empty = store(tmp_path, key, "empty").digest()
    later = time.time() + 3601
    assert kept.get("blog", later) is None
    assert kept.expire(later) == 1
    assert (kept.count(), kept.digest()) == (0, empty)


def test_a_restarted_agent_has_all_of_it_and_a_damaged_file_is_replaced(tmp_path, key):
    kept = store(tmp_path, key)
    kept.put(signed(key))
    kept.set_fact("since", "7")
    digest = kept.digest()
    kept.close()
    again = Store(tmp_path / "store.sqlite3")  # the key is remembered too
    assert (again.get("blog"), again.digest(), again.fact("since")) == (kept_of(again), digest, "7")
    again.close()
    (tmp_path / "store.sqlite3").write_bytes(b"no database" * 1000)
    assert store(tmp_path, key).count() == 0


def kept_of(again: Store) -> "str | None":
    record = again.of_workloads(["w-blog"])["w-blog"]
    assert record.endpoints == ("10.0.0.1:2000",)
    return again.get("blog")


def test_the_next_key_counts_and_the_old_one_until_its_time(tmp_path, key):
    new, kept, now = keys.create(tmp_path / "new.key"), store(tmp_path, key), time.time()
    said = records.sign(KeyChange(key.public_x, new.public_x, int(now) + 60), key)
    kept.learn_keys("", ["rubbish", said, said])
    assert kept.put(signed(new, sequence=2)) is Outcome.TAKEN
    assert kept.put(signed(key, "late", 3)) is Outcome.TAKEN
    with pytest.raises(BadRecord):
        kept.put(signed(key, "later", 4), now + 61)
    kept.close()
    assert Store(tmp_path / "store.sqlite3").trust.current == new.public_x


def test_an_agent_without_a_key_takes_it_from_the_portal_only(tmp_path, key):
    kept = Store(tmp_path / "store.sqlite3")
    with pytest.raises(BadRecord):
        kept.put(signed(key))
    kept.learn_keys("", [])
    assert kept.trust is None
    kept.learn_keys(key.public_x, [])
    assert kept.put(signed(key)) is Outcome.TAKEN


# --- gossip ----------------------------------------------------------------------------------------------------------


def test_two_agents_come_to_hold_the_same(tmp_path, key):
    one, two = store(tmp_path, key, "one"), store(tmp_path, key, "two")
    for number in range(300):
        (one if number % 3 else two).put(signed(key, f"app-{number}", number + 1))
    one.put(signed(key, "app-0", 1000))  # each also has something newer of the same name
    two.put(signed(key, "app-1", 1001))
    with serving(two) as address:
        one.set_fact("peers", address)
        asking = Gossip(one)
        for _ in range(20):
            asking.round()
    assert one.digest() == two.digest()
    assert one.count() == two.count() == 300
    assert records.unchecked(two.get("app-0")).sequence == 1000
    assert records.unchecked(one.get("app-1")).sequence == 1001


@pytest.mark.parametrize("mode", ["forged", "wrong", "garbage", "endless"])
def test_a_liar_gets_nothing_in_and_is_left_alone(tmp_path, key, mode):
    kept, old = store(tmp_path, key), signed(key)
    kept.put(signed(key, sequence=2))
    before = kept.digest()
    with liar(mode, old) as address:
        kept.set_fact("peers", address)
        asking = Gossip(kept)
        asking.round()
    assert kept.digest() == before
    assert asking.peers() == []  # nor is its word on the portal listened to


def test_an_old_record_is_answered_with_the_newer(tmp_path, key):
    kept, old = store(tmp_path, key), signed(key)
    kept.put(signed(key, sequence=2))
    before = kept.digest()
    with liar("old", old) as address:
        kept.set_fact("peers", address)
        Gossip(kept).round()
    assert kept.digest() == before


def test_a_slow_liar_costs_seconds_not_hours(tmp_path, key, monkeypatch):
    kept = store(tmp_path, key)
    with liar("slow", signed(key)) as address:
        began = time.monotonic()
        with pytest.raises(peer_http.PeerSilent):
            peer_http.ask(address, "/gossip/digest", seconds=1.5)
        assert time.monotonic() - began < 15
    assert kept.count() == 0


def test_who_pushes_a_forged_record_is_not_listened_to_any_more(tmp_path, key):
    kept, other = store(tmp_path, key), keys.create(tmp_path / "other.key")
    with serving(kept) as address:
        good = {"records": [signed(key)]}
        assert post(address, "/gossip/records", {"records": [signed(other)]}) == 400
        assert post(address, "/gossip/records", good) == 429
        assert get(address, "/gossip/digest") == 200  # but may still ask
    assert kept.count() == 0


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{",
        '{"records": 7}',
        '{"records": [7]}',
        '{"buckets": {"x": {}}}',
        '{"buckets": {"9999": {}}}',
        "[" * 50_000,
    ],
)
def test_odd_questions_are_refused(tmp_path, key, body):
    for path in ("/gossip/records", "/gossip/exchange", "/gossip/suspect", "/else"):
        with serving(store(tmp_path, key, path.replace("/", "-"))) as address:
            assert post(address, path, body) in (200, 204, 400, 404)
            assert get(address, "/gossip/digest") == 200


def test_a_clients_word_is_passed_on_only_if_it_can_be_true_and_not_too_often(tmp_path, key):
    kept, heard = store(tmp_path, key), []
    kept.put(signed(key))
    true = {"workload_id": "w-blog", "endpoint": "10.0.0.1:2000"}
    with serving(kept, heard) as address:
        assert post(address, "/gossip/suspect", true) == 204
        assert post(address, "/gossip/suspect", true | {"endpoint": "10.0.0.9:22"}) == 404
        assert post(address, "/gossip/suspect", true | {"workload_id": "other"}) == 404
        assert {post(address, "/gossip/suspect", true) for _ in range(8)} == {204, 429}
    assert set(heard) == {Suspicion("w-blog", "10.0.0.1:2000")}


def test_names_nodes_and_keys_are_answered(tmp_path, key):
    kept, now = store(tmp_path, key), int(time.time())
    kept.put(signed(key))
    kept.set_fact("nodes", records.sign(NodeList(("10.0.0.7:19420",), now, now + 60), key))
    with serving(kept) as address:
        assert peer_http.ask(address, "/directory/blog") == {"record": kept.get("blog"), "statements": []}
        assert peer_http.ask(address, "/directory/none") is None
        said = peer_http.ask(address, "/gossip/nodes")["nodes"]
        assert records.read_nodes(said, (key.public_x,), now).nodes == ("10.0.0.7:19420",)


# --- the small server ------------------------------------------------------------------------------------------------


def test_slow_callers_hold_nobody_up_and_are_dropped(monkeypatch):
    monkeypatch.setattr(small_http, "SECONDS", 1.0)
    monkeypatch.setattr(small_http, "IDLE_SECONDS", 0.1)
    server = SmallServer("127.0.0.1", 0, lambda *_: (200, {"ok": True}))
    server.start()
    address = f"127.0.0.1:{server.port}"
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
    for connection in slow:
        connection.sendall(b"GET / HT")
    assert get(address, "/") == 200
    for connection in slow:
        connection.settimeout(20)
        assert connection.recv(1) == b""  # hung up
        connection.close()
    server.stop()


def test_no_caller_has_more_than_its_share_and_large_requests_are_refused():
    server = SmallServer("127.0.0.1", 0, lambda *_: (200, {}), per_second=1000)
    server.start()
    held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(small_http.MOST_OF_ONE + 5)]
    held[-1].settimeout(20)
    assert held[-1].recv(1) == b""
    for connection in held:
        connection.close()
    address = f"127.0.0.1:{server.port}"
    until = time.monotonic() + 20
    while (answer := _try(address)) != 200 and time.monotonic() < until:
        time.sleep(0.05)
    assert answer == 200
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST / HTTP/1.0\r\nContent-Length: 99999999\r\n\r\n")
        assert b" 4" in connection.recv(100)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"x" * 10_000)
        assert b" 400 " in connection.recv(100)
    server.stop()


def test_who_asks_too_often_is_told_so():
    server = SmallServer("127.0.0.1", 0, lambda *_: (200, {}), per_second=1)
    server.start()
    answers = {get(f"127.0.0.1:{server.port}", "/") for _ in range(12)}
    server.stop()
    assert answers == {200, 429}


def test_the_table_of_askers_does_not_grow():
    from nodes.agent.rate import Rate, asker

    rate = Rate(1, 1, most=10)
    assert all(rate.allows(f"10.0.0.{number}", 0.0) for number in range(200))
    assert len(rate._buckets) == 10
    assert asker("2001:db8:1:2:3::4") == asker("2001:db8:1:2:ffff::1")
    assert asker("::ffff:10.0.0.1") == "10.0.0.1"


def _try(address: str) -> int:
    try:
        return get(address, "/")
    except (OSError, http.client.HTTPException):
        return 0


def get(address: str, path: str) -> int:
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("GET", path)
    try:
        return connection.getresponse().status
    finally:
        connection.close()


def post(address: str, path: str, message: object) -> int:
    connection = http.client.HTTPConnection(address, timeout=20)
    body = message if isinstance(message, str) else json.dumps(message)
    try:
        connection.request("POST", path, body.encode())
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_doctor_says_whether_the_directory_is_served(tmp_path, key):
    from nodes.agent import doctor
    from nodes.agent.config import Config

    def settings(device_id: str, port: int) -> Config:
        return Config(device_id, "http://p", "ws://p", 1, publish_address="127.0.0.1", directory_port=port)

    with serving(store(tmp_path, key)) as address:
        port = int(address.rpartition(":")[2])
        assert "is served on port" in doctor.directory(settings("d", port)).message
        other = doctor.directory(settings("another", port))  # somebody else's is there: the next port would be taken
        assert other.ok
        assert str(port) not in other.message
    assert doctor.directory(settings("d", 0)).ok
