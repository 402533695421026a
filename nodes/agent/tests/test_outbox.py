"""Readings wait on disk until the portal has them: through crashes, and however long it takes."""

from __future__ import annotations

import base64
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from joserfc import jws
from joserfc.jwk import OKPKey

from nodes.agent import keys
from nodes.agent.outbox import Outbox, Receipts, _payload
from nodes.agent.protocol import MAX_READINGS_PER_BATCH, Meter, Method, Reading, to_json
from nodes.agent.tests.conftest import ROOT


def reading(total: int, lease_id: str = "a", meter: Meter = Meter.TRANSFER) -> Reading:
    return Reading(lease_id, 1, meter, total, "2026-01-01T00:00:00+00:00", Method.INTERFACE)


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "out", key=keys.create(tmp_path / "key"), device_id="d", most=8)


def drain(outbox: Outbox) -> list[Reading]:
    found: list[Reading] = []
    while (item := outbox.oldest()) is not None:
        found += _payload(item[1]).readings
        outbox.confirmed(item[0])
    return found


def test_oldest_first_until_confirmed(outbox: Outbox) -> None:
    outbox.put([reading(1)])
    outbox.put([reading(2)])
    assert outbox.oldest() == outbox.oldest()
    assert [item.total for item in drain(outbox)] == [1, 2]
    assert outbox.oldest() is None


def test_a_new_process_goes_on_where_the_old_one_left(outbox: Outbox, tmp_path: Path) -> None:
    outbox.put([reading(1)])
    again = Outbox(tmp_path / "out", key=keys.load(tmp_path / "key"), device_id="d")
    again.put([reading(2)])
    assert [item.total for item in drain(again)] == [1, 2]


def test_large_batches_are_split(outbox: Outbox) -> None:
    outbox.put([reading(number, lease_id=str(number)) for number in range(MAX_READINGS_PER_BATCH + 1)])
    assert len(outbox) == 2


def test_too_many_are_merged_and_none_is_dropped(outbox: Outbox) -> None:
    for total in range(1, 101):
        outbox.put([reading(total), reading(1000 + total, meter=Meter.UPTIME), reading(5, lease_id=f"old-{total}")])
    assert len(outbox) <= 8 + 3, "bounded: the merged ones hold one reading for each counter"
    found = drain(outbox)
    assert max(item.total for item in found if item.meter is Meter.TRANSFER and item.lease_id == "a") == 100
    assert {item.lease_id for item in found} == {"a", *(f"old-{total}" for total in range(1, 101))}


def test_a_refused_batch_steps_aside_and_is_said_once_more(outbox: Outbox) -> None:
    outbox.put([reading(1)])
    outbox.put([reading(2)])
    outbox.refused(outbox.oldest()[0])
    name, jws = outbox.oldest()
    assert [item.total for item in _payload(jws).readings] == [2]
    outbox.confirmed(name)
    again = outbox.oldest()
    assert [item.total for item in _payload(again[1]).readings] == [1]
    assert outbox.lost == 0
    outbox.refused(again[0])
    assert (outbox.oldest(), outbox.lost) == (None, 1)
    assert len(list((outbox._folder / "refused").iterdir())) == 2


def test_what_is_said_once_more_is_dated_by_the_portals_clock_and_signed_with_the_key_in_force(tmp_path: Path) -> None:
    key, now = keys.create(tmp_path / "key"), [2_000_000_000.0]
    outbox = Outbox(tmp_path / "out", key=key, device_id="d", now=lambda: now[0])
    ahead = datetime.fromtimestamp(now[0], timezone.utc).isoformat()
    outbox.put([replace(reading(1), at=ahead), reading(2, lease_id="b")])
    now[0] -= 86_400  # the portal has told us what time it is
    fresh = keys.create(tmp_path / "next")
    key.adopt(fresh)
    outbox.refused(outbox.oldest()[0])
    jws = outbox.oldest()[1]
    assert verified(jws, fresh.public_x)
    batch = _payload(jws)
    assert datetime.fromisoformat(batch.created_at).timestamp() == now[0]
    assert [datetime.fromisoformat(item.at).timestamp() for item in batch.readings] == [now[0], 1767225600.0]


def verified(compact: str, public_x: str) -> bool:
    key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": public_x})
    return bool(jws.deserialize_compact(compact, key, algorithms=["Ed25519"]).payload)


def test_what_a_failing_disk_changed_is_neither_sent_nor_signed_again(outbox: Outbox) -> None:
    for total in range(1, 9):
        outbox.put([reading(total)])
    first, second, *_ = sorted(outbox._folder.glob("*.jws"))
    for path, forged in ((first, reading(9_000)), (second, None)):
        header, payload, signature = path.read_text().split(".")
        if forged is not None:
            batch = replace(_payload(path.read_text()), readings=(forged,))
            payload = base64.urlsafe_b64encode(to_json(batch)).decode().rstrip("=")
        path.write_bytes(f"{header}.{payload}.{signature}".encode() if forged else b"\xff\x00")
    outbox.put([reading(9)])  # one too many: the older half is merged
    assert max(item.total for item in drain(outbox)) == 9
    assert outbox.lost == 2


def test_a_file_of_an_older_agent_goes_as_it_is(outbox: Outbox) -> None:
    outbox.put([reading(1)])
    (path,) = outbox._folder.glob("*.jws")
    path.rename(path.with_name("-".join(path.stem.split("-")[:6]) + ".jws"))
    assert [item.total for item in drain(outbox)] == [1]


WRITER = """
import sys
from pathlib import Path
from nodes.agent import keys
from nodes.agent.outbox import Outbox
from nodes.agent.protocol import Meter, Method, Reading
folder = Path(sys.argv[1])
outbox = Outbox(folder / "out", key=keys.create(folder / "key"), device_id="d", most=6)
total = int(sys.argv[2])
while True:
    total += 1
    outbox.put([Reading("a", 1, Meter.TRANSFER, total, "2026-01-01T00:00:00+00:00", Method.INTERFACE)])
    print(total, flush=True)
"""


def test_killed_at_any_moment_it_has_all_it_said_it_has(tmp_path: Path) -> None:
    """A real process is killed with SIGKILL again and again; whatever it had said is written can be read."""
    said = 0
    for kills in range(1, 9):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(said)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
            said = int(process.stdout.readline())
            time.sleep(random.uniform(0.0, 0.15))
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
            said = int(rest[-1]) if rest else said
        outbox = Outbox(tmp_path / "out", key=keys.load(tmp_path / "key"), device_id="d", most=6)
        totals = [
            item.total
            for path in sorted((tmp_path / "out").glob("*.jws"))
            for item in _payload(path.read_text()).readings
        ]
        assert max(totals) >= said, "what was said to be on disk is on disk, whole and signed"
        assert len(outbox) <= 6 + 2 * kills, "killed in a merge, it has the batch just put and the merged one too many"
        assert not list((tmp_path / "out").glob(".*.tmp"))
    for _ in range(20):
        outbox.put([reading(said)])
    assert len(outbox) <= 7, "calm, it goes back to its bound"


def test_receipts_stay_until_confirmed_and_stay_known(tmp_path: Path) -> None:
    receipts = Receipts(tmp_path / "receipts")
    receipts.put("a", "jws")
    assert Receipts(tmp_path / "receipts").waiting() == [("a", "jws")]
    receipts.confirmed("a")
    assert receipts.waiting() == []
    assert receipts.has("a")
    receipts.forget(lambda lease_id: True)
    assert receipts.has("a")
    receipts.forget(lambda lease_id: False)
    assert not receipts.has("a")
