"""What agents call, through HTTP: each way a call can be wrong is refused with a code, stores nothing and leaves a trace.

Longer than 300 lines because every way a message can be wrong is one page.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
import uuid
from pathlib import Path

import pytest
from joserfc.jwk import OKPKey

from interchain_site.core import redis
from interchain_site.core.models import AuditEvent
from interchain_site.testing.devices import BENCHMARK, CAPACITY, make_device, make_workload
from nodes.agent import protocol
from nodes.agent.protocol import Meter
from nodes.models import Device, MeterTotal, ReadingBatch
from nodes.services import devices, enrolment, leases, placement, refusals

API = "/api/node/v1/"


class Agent:
    """Sends raw requests as this device would; keeps the last answer's code."""

    def __init__(self, client, box):
        self.client, self.box = client, box

    def send(self, path, body=None, token=None, **headers):
        headers["Authorization"] = f"Bearer {token or self.box.jwt()}"
        if body is None:
            return self.client.get(API + path, headers=headers)
        return self.client.post(API + path, body, content_type="application/jose", headers=headers)


@pytest.fixture
def agent(client, box):
    return Agent(client, box)


def code(answer):
    return answer.status_code, answer.json()["code"]


# --- who is calling ----------------------------------------------------------------------------------------------


def test_a_good_token_is_used_up(agent):
    token = agent.box.jwt()
    assert agent.send("desired", token=token).status_code == 200
    assert code(agent.send("desired", token=token)) == (401, "replayed")


def test_no_token_at_all(client, db):
    assert code(client.get(API + "desired")) == (401, "unauthenticated")


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": str(uuid.uuid4())},
        {"iss": "nobody"},
        {"iss": None},
        {"aud": "https://other.example"},
        {"aud": None},
        {"iat": int(time.time()) - 400, "exp": int(time.time()) - 340},
        {"iat": int(time.time()) + 400, "exp": int(time.time()) + 460},
        {"exp": int(time.time()) + 3600},
        {"exp": "soon"},
        {"iat": True},
        {"jti": ""},
        {"jti": 7},
        {"jti": "x" * 200},
    ],
)
def test_a_wrong_claim_is_refused(agent, claims):
    assert code(agent.send("desired", token=agent.box.jwt(**claims))) == (401, "unauthenticated")


def test_another_devices_signature_is_refused(agent, cast):
    other = make_device(cast.publisher, "Other")
    assert code(agent.send("desired", token=other.jwt(iss=agent.box.id))) == (401, "unauthenticated")


@pytest.mark.parametrize("token", ["x", "a.b.c", "..", "é.é.é", "a" * 10_000, "e30.e30.e30"])
def test_what_is_no_token_is_refused(agent, token):
    assert code(agent.send("desired", token=token)) == (401, "unauthenticated")


def test_an_unsigned_token_is_refused(agent):
    header, payload, _ = agent.box.jwt().split(".")
    assert code(agent.send("desired", token=f"eyJhbGciOiJub25lIn0.{payload}.")) == (401, "unauthenticated")
    assert code(agent.send("desired", token=f"{header}.{payload}.")) == (401, "unauthenticated")


def test_a_removed_device_is_told_so(agent, cast):
    devices.revoke_device(device=agent.box.device, by=cast.owner)
    assert code(agent.send("desired")) == (403, "device_removed")


def test_without_redis_the_agent_is_asked_to_come_again(agent, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    from nodes.services import identity

    with pytest.raises(identity.Busy):
        identity.authenticate(agent.box.jwt())


def test_a_call_turns_an_offline_device_online(agent):
    Device.objects.update(state="offline")
    agent.send("desired")
    assert Device.objects.get().state == "online"


# --- enrolment ---------------------------------------------------------------------------------------------------


@pytest.fixture
def enrolling(client, cast):
    device, token = enrolment.create_device(owner=cast.owner, name="Attic", region="us")
    key = OKPKey.generate_key("Ed25519").as_dict(private=False)["x"]
    message = protocol.Enrolment(token, key, "1.0", CAPACITY, BENCHMARK, "10.0.0.7")

    def send(headers=None, **changes):
        body = protocol.to_json(dataclasses.replace(message, **changes))
        return client.post(API + "enrol", body, content_type="application/json", headers=headers or {})

    send.device = device
    return send


def test_a_token_makes_a_device_once_and_a_resend_is_the_same_device(enrolling):
    first, again = enrolling(), enrolling()
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["device_id"] == again.json()["device_id"] == str(enrolling.device.pk)
    assert first.json()["link_url"].startswith("ws://")
    enrolling.device.refresh_from_db()
    assert (enrolling.device.state, enrolling.device.endpoint_host) == ("online", "10.0.0.7")


def test_a_device_that_names_no_host_is_reached_where_the_trusted_proxy_saw_it(enrolling, monkeypatch):
    monkeypatch.setattr("rest_framework.settings.api_settings.NUM_PROXIES", 1, raising=False)
    enrolling(endpoint_host="", headers={"X-Forwarded-For": "203.0.113.66, 198.51.100.7"})
    enrolling.device.refresh_from_db()
    assert enrolling.device.endpoint_host == "198.51.100.7"


def test_without_a_proxy_nobody_is_believed_about_his_address(enrolling):
    enrolling(endpoint_host="", headers={"X-Forwarded-For": "203.0.113.66"})
    enrolling.device.refresh_from_db()
    assert enrolling.device.endpoint_host == "127.0.0.1"


def test_a_used_token_does_not_make_a_second_device(enrolling):
    enrolling()
    other = OKPKey.generate_key("Ed25519").as_dict(private=False)["x"]
    assert code(enrolling(public_key=other)) == (409, "token_used")


def test_an_unknown_or_expired_token(enrolling):
    assert code(enrolling(token="x")) == (404, "token_unknown")
    enrolling.device.tokens.update(expires_at="2020-01-01T00:00Z")
    assert code(enrolling()) == (410, "token_expired")
    assert not Device.objects.exclude(public_key="").exists()


def test_a_key_belongs_to_one_device(enrolling, box):
    assert code(enrolling(public_key=box.device.public_key)) == (409, "conflict")
    enrolling.device.refresh_from_db()
    assert enrolling.device.state == "pending"
    assert enrolling().status_code == 201  # the token was not spent by the refusal


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"public_key": "short"}, "public_key"),
        ({"public_key": "!" * 43}, "public_key"),
        ({"capacity": dataclasses.replace(CAPACITY, memory_bytes=0)}, "capacity.memory_bytes"),
        ({"capacity": dataclasses.replace(CAPACITY, cpu_millis=2**63)}, "capacity.cpu_millis"),
        ({"benchmark": protocol.Benchmark(10**12)}, "benchmark.instructions_per_second"),
        ({"endpoint_host": "not a host"}, "endpoint_host"),
    ],
)
def test_what_a_device_cannot_be_is_refused_by_field(enrolling, changes, field):
    answer = enrolling(**changes)
    assert code(answer) == (400, "invalid")
    assert field in answer.json()["fields"]
    enrolling.device.refresh_from_db()
    assert enrolling.device.state == "pending"


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.7", "169.254.169.254", "localhost", "::1"])
def test_on_a_public_portal_a_device_cannot_point_the_gateway_inside(enrolling, settings, host):
    settings.PRIVATE_ENDPOINTS = False
    assert code(enrolling(endpoint_host=host)) == (400, "invalid")


# --- messages ----------------------------------------------------------------------------------------------------


def test_desired_answers_304_until_something_changes(agent):
    lease = placement.open_lease(workload=make_workload(), by=None)
    first = agent.send("desired")
    assert first.json()["leases"][0]["lease_id"] == str(lease.pk)
    assert agent.send("desired", **{"If-None-Match": first.headers["ETag"]}).status_code == 304
    leases.close_lease(lease_id=lease.pk, by=None)
    assert agent.send("desired", **{"If-None-Match": first.headers["ETag"]}).status_code == 200


def test_a_report_moves_the_lease(agent):
    lease = placement.open_lease(workload=make_workload(), by=None)
    status = protocol.Status(str(lease.pk), 1, protocol.Observed.RUNNING, host_port=20_001)
    report = protocol.Report((status,), "2.0", {"memory_free_bytes": 5})
    assert agent.send("report", protocol.to_json(report)).status_code == 204
    lease.refresh_from_db()
    assert (lease.state, lease.host_port) == ("running", 20_001)
    assert Device.objects.get().agent_version == "2.0"


@pytest.mark.parametrize("path", ["report", "enrol"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"statuses": 5, "token": 5}', b"\xff", b"[" * 100_000])
def test_malformed_json_is_refused(agent, path, body):
    assert code(agent.send(path, body)) == (400, "malformed")


@pytest.mark.parametrize("path", ["report", "readings", "receipts", "enrol"])
def test_an_oversized_body_is_refused(agent, path):
    assert code(agent.send(path, b"x" * (protocol.MAX_BODY_BYTES + 1))) == (413, "too_large")


@pytest.mark.parametrize("body", [b"", b"x", b"a.b.c", b"\xff\xfe", b"." * 100])
@pytest.mark.parametrize("path", ["readings", "receipts"])
def test_what_is_no_jws_is_refused(agent, path, body):
    answer = agent.send(path, body)
    assert answer.status_code == 400
    assert answer.json()["code"] in {"bad_signature", "malformed"}
    assert not ReadingBatch.objects.exists()


# --- readings ----------------------------------------------------------------------------------------------------


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


# --- traces ------------------------------------------------------------------------------------------------------


def test_each_refusal_leaves_a_trace_but_never_a_flood(agent):
    for _ in range(refusals.MOST_PER_HOUR + 15):
        agent.send("readings", b"x")
    traces = AuditEvent.objects.filter(action="request_refused", subject=f"device:{agent.box.id}")
    assert traces.count() == refusals.MOST_PER_HOUR
    assert traces.first().data["code"] == "bad_signature"


def test_unknown_callers_share_one_allowance(client, db):
    for _ in range(refusals.MOST_PER_HOUR + 15):
        client.get(API + "desired", headers={"Authorization": f"Bearer {uuid.uuid4()}"})
    assert AuditEvent.objects.filter(subject="device:unknown").count() == refusals.MOST_PER_HOUR
    assert redis.connection().ttl("nodes:refusals:device:unknown:request_refused") > 3000


# --- archives ----------------------------------------------------------------------------------------------------


def test_only_a_device_that_needs_an_archive_gets_it(agent, client, cast, settings):
    content = b"an image" * 100_000
    sha256 = hashlib.sha256(content).hexdigest()
    folder = Path(settings.MEDIA_ROOT) / "archives"
    folder.mkdir(parents=True)
    (folder / sha256).write_bytes(content)
    assert code(agent.send(f"archives/{sha256}")) == (404, "not_found")
    image = protocol.Image(archive_sha256=sha256, archive_bytes=len(content), image_id="sha256:x")
    lease = placement.open_lease(workload=make_workload(image=image), by=None)
    assert b"".join(agent.send(f"archives/{sha256}").streaming_content) == content
    other = Agent(client, make_device(cast.publisher, "Other"))
    assert code(other.send(f"archives/{sha256}")) == (404, "not_found")
    leases.close_lease(lease_id=lease.pk, by=None)
    assert code(agent.send(f"archives/{sha256}")) == (404, "not_found")
    assert agent.send("archives/..%2f..%2fetc").status_code == 404


# --- receipts ----------------------------------------------------------------------------------------------------


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
