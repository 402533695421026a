"""A client, ten nodes of which three lie, a portal that is stopped and cut off, devices whose cable is pulled: all real processes,
each computer in a network namespace of its own.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from connect.tests.namespaces import ROOT, Computer, network
from nodes.agent import keys, records
from nodes.agent.directory_store import Store
from nodes.agent.records import Record

pytestmark = pytest.mark.docker  # needs root and iproute2, which only that suite may rely on
LIES = ("forged", "old", "endless")
HONEST = 7
PORT, LOCAL, EVIL = 19420, 18080, 666


def record(key: keys.DeviceKey, sequence: int, *endpoints: str) -> str:
    now = int(time.time())
    generations, slots = tuple(sequence for _ in endpoints), tuple(range(len(endpoints)))
    said = Record("blog", "w-blog", sequence, endpoints, sequence, now, now + 3600, generations, slots)
    return records.sign(said, key)


def lines_of(process: subprocess.Popen[str]) -> queue.SimpleQueue[str]:
    found: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in process.stdout:
            found.put(line.strip())

    threading.Thread(target=read, daemon=True).start()
    return found


def eventually(ask: Callable[[], object], seconds: float = 60, what: str = "") -> object:
    until = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < until, f"not in {seconds:g} s: {what}"
        time.sleep(0.1)
    return answer


def said_by(answers: queue.SimpleQueue[str], seen: list[str]) -> list[str]:
    while True:
        try:
            seen.append(answers.get_nowait().split()[1])
        except queue.Empty:
            return seen


def node_knows(client: Computer, node: Computer) -> int:
    """Return the sequence of the record that a node serves, asked from the client's computer; 0: it does not answer."""
    ask = f"from nodes.agent import peer_http as p;import json;print(json.dumps(p.ask('{node.address}:{PORT}','/directory/blog')))"
    asked = client.start("-c", ask)
    out, _ = asked.communicate(timeout=60)
    try:
        return records.unchecked(json.loads(out)["record"]).sequence
    except (ValueError, TypeError):
        return 0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SimpleNamespace]:
    key = keys.create(tmp_path / "directory.key")
    with network(HONEST + len(LIES) + 6) as computers:
        portal, client, one, two, three, evil, *nodes = computers
        addresses = [f"{node.address}:{PORT}" for node in nodes]
        for device, name in ((one, "one"), (two, "two"), (three, "three"), (evil, "evil")):
            device.start(str(ROOT / "connect" / "tests" / "app.py"), device.address, str(EVIL), name)
        old = record(key, 1, f"{evil.address}:{EVIL}")
        newest = record(key, 2, f"{one.address}:{EVIL}", f"{two.address}:{EVIL}")
        (tmp_path / "portal").mkdir()
        kept = Store(tmp_path / "portal" / "directory.sqlite3", key=key.public_x)
        kept.put(newest)
        kept.close()
        run = ("-m", "nodes.agent.tests.directory_process")
        portal_process = portal.start(
            *run, str(tmp_path / "portal"), portal.address, str(PORT), key.public_x, *addresses
        )
        honest, liars = nodes[:HONEST], nodes[HONEST:]
        for number, node in enumerate(honest):
            others = [address for address in addresses if not address.startswith(node.address + ":")]
            node.home = tmp_path / f"node{number}"
            node.command = (*run, str(node.home), node.address, str(PORT), key.public_x)
            node.process = node.start(*node.command, *others, f"{portal.address}:{PORT}")
        for node, mode in zip(liars, LIES, strict=True):
            node.start("-m", "nodes.agent.tests.lying_node", mode, node.address, str(PORT), old)
        trust = tmp_path / "trust.json"
        document = {"format": "interchain-trust-1", "key": key.public_x, "portal": f"http://{portal.address}:{PORT}"}
        trust.write_text(json.dumps(document | {"seeds": addresses, "statements": []}))
        yield SimpleNamespace(**locals())


def test_the_client_is_back_through_honest_nodes_and_never_at_a_wrong_address(world: SimpleNamespace) -> None:
    client, honest, key = world.client, world.honest, world.key
    eventually(lambda: all(node_knows(client, node) == 2 for node in honest), what="honest nodes agree among liars")
    connect = client.start(
        "-m", "interchain_connect", "connect", "blog", "--trust", str(world.trust), "--port", str(LOCAL)
    )
    words = lines_of(connect)
    assert str(LOCAL) in words.get(timeout=60)
    answers, seen = lines_of(client.start(str(ROOT / "connect" / "tests" / "caller.py"), str(LOCAL))), []
    eventually(lambda: "one" in said_by(answers, seen), what="the first of the succession answers")

    # The portal is stopped and its cable pulled.
    world.portal_process.kill()
    world.portal.unplug()
    before = len(said_by(answers, seen))
    eventually(lambda: "one" in said_by(answers, seen)[before:], what="nothing changes for the client")

    # The device that serves is cut: the next of the succession answers, and a node is told.
    heard = [lines_of(node.process) for node in honest]
    world.one.unplug()
    eventually(lambda: "two" in said_by(answers, seen), what="the second answers")
    eventually(lambda: any(not box.empty() for box in heard), what="a node is told of the dead endpoint")

    # What one node alone was told by the portal before, all nodes learn; then the second is cut too.
    moved = record(key, 3, f"{world.three.address}:{EVIL}")
    tell = f"from nodes.agent import peer_http as p;p.ask('{honest[0].address}:{PORT}','/gossip/records',{{'records':['{moved}']}})"
    client.start("-c", tell).communicate(timeout=60)
    eventually(lambda: all(node_knows(client, node) == 3 for node in honest), what="the news reaches every node")
    world.two.unplug()
    eventually(lambda: "three" in said_by(answers, seen), what="the client follows to the third")

    # A node that was killed serves from its disk, with nobody to ask.
    honest[1].process.kill()
    honest[1].process.wait()
    honest[1].start(*honest[1].command)
    eventually(lambda: node_knows(client, honest[1]) == 3, what="a restarted node serves from its disk")

    assert set(said_by(answers, seen)) <= {"one", "two", "three", "-"}
    order = [name for name in seen if name != "-"]
    assert order == sorted(order, key=("one", "two", "three").index), "it never went back"
