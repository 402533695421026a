"""Readings and receipts through HTTP: what is wrong is refused whole and nothing of it is stored."""

from __future__ import annotations

import dataclasses
import json
import uuid

import pytest

from interchain_site.testing.devices import make_device, make_workload
from nodes.agent import protocol
from nodes.agent.protocol import Meter
from nodes.conftest import Agent, code
from nodes.models import MeterTotal, ReadingBatch
from nodes.services import leases, placement


@pytest.fixture
def lease(box):
    lease = placement.open_lease(workload=make_workload(), by=None)
    box.runs(lease)
    return lease


def test_readings_are_accepted_once(agent, lease):
    batch = agent.box.batch(agent.box.reading(lease, Meter.TRANSFER, 100))
    assert agent.send("readings", batch).json()["duplicate"] is False
    assert agent.send("readings", batch).json()["duplicate"] is True
    assert MeterTotal.objects.get().total == 100
    assert ReadingBatch.objects.get().jws == batch


def test_another_devices_signature_on_readings_is_refused(agent, lease, cast):
    other = make_device(cast.publisher, "Other")
    stolen = other.batch(other.reading(lease, Meter.TRANSFER, 100))
    assert code(agent.send("readings", stolen)) == (400, "bad_signature")
    forged = agent.box.batch(agent.box.reading(lease, Meter.TRANSFER, 100), device_id=other.id)
    assert code(agent.send("readings", forged)) == (400, "malformed")
    assert not ReadingBatch.objects.exists()


def test_a_tampered_batch_is_refused(agent, lease):
    header, _, signature = agent.box.batch(agent.box.reading(lease, Meter.TRANSFER, 100)).split(".")
    other = agent.box.batch(agent.box.reading(lease, Meter.TRANSFER, 900)).split(".")[1]
    assert code(agent.send("readings", f"{header}.{other}.{signature}")) == (400, "bad_signature")


def test_readings_of_leases_that_are_not_this_devices_are_refused_and_the_rest_counts(agent, lease, cast):
    other = make_device(cast.publisher, "Other")
    foreign = placement.open_lease(workload=make_workload("other"), by=None)
    if foreign.device_id == agent.box.device.pk:
        foreign, lease, signer = lease, foreign, agent.box
        foreign = type(lease)(pk=uuid.uuid4(), generation=1)
    else:
        signer = agent.box
    batch = signer.batch(
        signer.reading(lease, Meter.TRANSFER, 5),
        signer.reading(foreign, Meter.TRANSFER, 7),
        dataclasses.replace(signer.reading(lease, Meter.UPTIME, 9), generation=99),
    )
    answer = agent.send("readings", batch).json()
    assert answer["refused"] == [str(foreign.pk)]
    assert other.id
    assert {(row.lease_id, row.total) for row in MeterTotal.objects.all()} == {(lease.pk, 5)}


@pytest.mark.parametrize(
    "change",
    [
        {"total": -1},
        {"total": 2**63},
        {"total": 1.5},
        {"total": True},
        {"total": "5"},
        {"meter": "active_user", "method": "gateway"},
        {"meter": "love"},
        {"method": "gateway"},
        {"at": "yesterday"},
        {"at": "2026-01-01T00:00:00"},
        {"at": "2200-01-01T00:00:00Z"},
        {"lease_id": "x"},
    ],
)
def test_one_bad_reading_refuses_the_whole_batch(agent, lease, change):
    good = agent.box.reading(lease, Meter.TRANSFER, 5)
    document = json.loads(
        protocol.to_json(protocol.ReadingBatch(str(uuid.uuid4()), agent.box.id, good.at, (good, good)))
    )
    document["readings"][1] |= change
    assert code(agent.send("readings", agent.box.sign(json.dumps(document).encode()))) == (400, "malformed")
    assert not ReadingBatch.objects.exists()
    assert not MeterTotal.objects.exists()


def test_too_many_readings_in_one_batch(agent, lease):
    readings = [agent.box.reading(lease, Meter.TRANSFER, 5)] * (protocol.MAX_READINGS_PER_BATCH + 1)
    assert code(agent.send("readings", agent.box.batch(*readings))) == (400, "malformed")


def test_a_receipt_ends_the_lease_and_may_come_twice(agent, lease):
    leases.close_lease(lease_id=lease.pk, by=None)
    agent.box.says(lease, protocol.Observed.STOPPED)
    receipt = agent.box.receipt(lease)
    assert code(agent.send("receipts", receipt)) == (409, "conflict")
    leases.wipe_lease(lease_id=lease.pk, by=None)
    assert [agent.send("receipts", receipt).status_code for _ in range(2)] == [204, 204]
    lease.refresh_from_db()
    assert (lease.state, lease.receipt.jws) == ("wiped", receipt)


@pytest.mark.parametrize(
    "changes", [{"device_id": "x"}, {"volume_bytes": -1}, {"wiped_at": "now"}, {"lease_id": "x"}, {"generation": "1"}]
)
def test_a_malformed_receipt_is_refused(agent, lease, changes):
    assert code(agent.send("receipts", agent.box.receipt(lease, **changes))) == (400, "malformed")


def test_a_receipt_for_a_lease_elsewhere_is_not_found(agent, lease, cast, client):
    other = Agent(client, make_device(cast.publisher, "Other"))
    assert code(other.send("receipts", other.box.receipt(lease))) == (404, "not_found")
