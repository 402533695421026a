"""What agents call, through HTTP: each way a call can be wrong is refused with a code and leaves a trace."""

from __future__ import annotations

import hashlib
import itertools
import time
import uuid
from pathlib import Path

import pytest
from redis.connection import Connection

from interchain_site.core import redis, secrets
from interchain_site.core.models import AuditEvent
from interchain_site.testing.devices import make_device, make_workload
from nodes import queries
from nodes.agent import protocol
from nodes.agent.courier import DEVICE_REVOKED
from nodes.conftest import API, Agent, code
from nodes.models import Device, Lease, ReadingBatch, Snapshot
from nodes.services import devices, identity, leases, liveness, placement, refusals, snapshots


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
    assert code(agent.send("desired")) == (403, DEVICE_REVOKED)  # the word at which the agent stops every app


def test_without_redis_the_agent_is_asked_to_come_again(agent, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    with pytest.raises(identity.Busy):
        identity.authenticate(agent.box.jwt())


def test_a_call_turns_an_offline_device_online(agent):
    Device.objects.update(state="offline")
    agent.send("desired")
    assert Device.objects.get().state == "online"


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
    Lease.objects.update(action="standby")  # which is to have it ready
    assert b"".join(agent.send(f"archives/{sha256}").streaming_content) == content
    other = Agent(client, make_device(cast.publisher, "Other"))
    assert code(other.send(f"archives/{sha256}")) == (404, "not_found")
    leases.close_lease(lease_id=lease.pk, by=None)
    assert code(agent.send(f"archives/{sha256}")) == (404, "not_found")
    assert agent.send("archives/..%2f..%2fetc").status_code == 404


# --- what the calls that come most often cost --------------------------------------------------------------------


def test_who_calls_is_one_query_and_one_round_trip_to_redis(agent, django_assert_num_queries, monkeypatch):
    identity.authenticate(agent.box.jwt())  # Redis knows the script from now on
    token, sent = agent.box.jwt(), []
    send = Connection.send_packed_command
    monkeypatch.setattr(Connection, "send_packed_command", lambda *a, **k: (sent.append(1), send(*a, **k))[1])
    with django_assert_num_queries(1):
        identity.authenticate(token)
    assert len(sent) == 1
    assert time.time() - redis.connection().zscore(liveness.SEEN_KEY, agent.box.id) < 60


def test_a_token_that_is_replayed_does_not_make_its_device_heard(agent):
    token = agent.box.jwt()
    identity.authenticate(token)
    redis.connection().delete(liveness.SEEN_KEY)
    with pytest.raises(identity.Replayed):
        identity.authenticate(token)
    assert redis.connection().zscore(liveness.SEEN_KEY, agent.box.id) is None


def test_a_poll_that_finds_nothing_new_is_three_queries_and_decrypts_nothing(
    agent, django_assert_num_queries, monkeypatch
):
    for number in range(3):
        placement.open_lease(workload=make_workload(f"app{number}"), by=None)
    etag = agent.send("desired").headers["ETag"]
    monkeypatch.setattr(secrets, "decrypt", None)
    with django_assert_num_queries(3):  # the device, its leases, its spot check
        assert agent.send("desired", **{"If-None-Match": etag}).status_code == 304


def test_a_poll_that_finds_something_new_is_five_queries_for_any_number_of_leases(agent, django_assert_num_queries):
    for number in range(6):
        placement.open_lease(workload=make_workload(f"app{number}"), by=None)
        if number in (0, 5):
            with django_assert_num_queries(4):
                assert len(agent.send("desired").json()["leases"]) == number + 1


def test_the_etag_changes_exactly_when_the_body_does(agent, cast, settings):
    first = placement.open_lease(workload=make_workload(volume_path="/data"), by=None)
    limited = {"transfer_bytes_per_month": 10**12}
    changes = [
        lambda: agent.box.runs(first),
        lambda: agent.box.says(first, protocol.Observed.UNHEALTHY),
        lambda: snapshots.want(lease=Lease.objects.get(pk=first.pk), cause=Snapshot.Cause.DEMAND),
        lambda: Lease.objects.filter(pk=first.pk).update(restore_from=Snapshot.objects.get()),
        lambda: placement.open_lease(workload=make_workload("other"), by=None),
        lambda: devices.pause_device(device=Device.objects.get(), by=cast.owner),
        lambda: devices.resume_device(device=Device.objects.get(), by=cast.owner),
        lambda: Device.objects.update(new_key_wanted=True),
        lambda: Device.objects.update(limits=limited),
        lambda: setattr(settings, "READING_INTERVAL_SECONDS", 7),
        lambda: leases.close_lease(lease_id=first.pk, by=None),
        lambda: agent.box.says(first, protocol.Observed.STOPPED),
        lambda: leases.wipe_lease(lease_id=first.pk, by=None),
        lambda: agent.box.wipes(first),
    ]

    def now() -> tuple[protocol.Desired, str]:
        device = Device.objects.get()
        return queries.desired_of(device), queries.desired_etag(device, beside=queries.desired_beside_leases(device))

    seen = [now()]
    for change in changes:
        change()
        seen.append(now())
    for (body, etag), (next_body, next_etag) in itertools.pairwise(seen):
        assert (body == next_body) == (etag == next_etag)
    assert len({etag for _, etag in seen}) >= 8
