"""Readings sent to a real server, twice, in another order, months later, damaged, or by somebody who may not: each total stays true."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import time_machine

from interchain_site.testing.devices import FakeDevice, make_device, make_workload
from nodes.agent.courier import DEVICE_REVOKED
from nodes.agent.protocol import READINGS_PATH, Meter
from nodes.models import MeterTotal, ReadingBatch
from nodes.services import devices, placement

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore:No directory at"),  # the static files nobody asks for here
]


class Network:
    """Carries what a device signed to the server, any number of times."""

    def __init__(self, url: str, box: FakeDevice) -> None:
        self._url, self._box = url, box

    def send(self, jws: str, token: str = "") -> tuple[int, str]:
        """Return status, and code or whether the portal knew it."""
        headers = {"Authorization": f"Bearer {token or self._box.jwt()}", "Content-Type": "application/jose"}
        answer = httpx.post(self._url + READINGS_PATH, content=jws, headers=headers, trust_env=False, timeout=30)
        document = answer.json()
        return answer.status_code, document.get("code") or ("duplicate" if document["duplicate"] else "new")


@pytest.fixture
def lease(box):
    lease = placement.open_lease(workload=make_workload(), by=None)
    box.runs(lease)
    return lease


@pytest.fixture
def network(live_server, box) -> Network:
    return Network(live_server.url, box)


def billed() -> int:
    return MeterTotal.objects.get().total


def test_twice_and_in_another_order(network, box, lease):
    batches = [box.batch(box.reading(lease, Meter.TRANSFER, total)) for total in (100, 200, 300, 400)]
    answers = [network.send(batches[number]) for number in (2, 0, 2, 3, 1, 3, 0)]
    assert [known for _, known in answers] == ["new", "new", "duplicate", "new", "new", "duplicate", "duplicate"]
    assert billed() == 400


def test_replayed_after_90_days(network, box, lease):
    token, batch = box.jwt(), box.batch(box.reading(lease, Meter.TRANSFER, 100))
    assert network.send(batch, token) == (200, "new")
    assert network.send(batch, token) == (401, "replayed")
    with time_machine.travel(datetime.now(UTC) + timedelta(days=90)):
        assert network.send(batch, token)[0] == 401
        assert network.send(batch) == (200, "duplicate")
    assert (billed(), ReadingBatch.objects.count()) == (100, 1)


def test_damaged_on_the_way(network, box, lease):
    batch = box.batch(box.reading(lease, Meter.TRANSFER, 100))
    for place in range(0, len(batch) - 1, 17):  # the last letter of a signature has bits that say nothing
        damaged = batch[:place] + chr(ord(batch[place]) ^ 1) + batch[place + 1 :]
        status, answer = network.send(damaged)
        assert status == 400, (place, answer)
    assert not ReadingBatch.objects.exists()
    assert network.send(batch) == (200, "new")
    assert billed() == 100


def test_signed_by_another_device_and_by_a_removed_one(network, box, lease, cast):
    other = make_device(cast.publisher, "Other")
    stolen = other.batch(other.reading(lease, Meter.TRANSFER, 900), device_id=box.id)
    assert network.send(stolen) == (400, "bad_signature")
    assert network.send(other.batch(other.reading(lease, Meter.TRANSFER, 900)), other.jwt())[0] == 200
    assert not MeterTotal.objects.exists(), "what is not the other's lease counts for nobody"
    devices.revoke_device(device=box.device, by=cast.owner)
    last = box.batch(box.reading(lease, Meter.TRANSFER, 100), id=str(uuid.uuid4()))
    assert network.send(last) == (403, DEVICE_REVOKED)
    assert not MeterTotal.objects.exists()
