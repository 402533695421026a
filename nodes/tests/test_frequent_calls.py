"""The calls that are answered in front of Django, on a real server: as Django's views answer them, and no worse when things fail."""

from __future__ import annotations

import asyncio
import threading
import time

import httpx
import pytest
from django.db import connection

from interchain_site.core.models import AuditEvent
from interchain_site.testing.devices import make_device, make_workload
from nodes.agent.protocol import (
    DESIRED_PATH,
    MAX_BODY_BYTES,
    READINGS_PATH,
    REPORT_PATH,
    Meter,
    Observed,
    Report,
    Status,
    to_json,
)
from nodes.api.frequent import Answer
from nodes.calls import Calls
from nodes.errors import Busy
from nodes.models import MeterTotal, ReadingBatch
from nodes.services import devices, leases, placement
from nodes.tests.test_link import site  # noqa: F401  (a fixture)

pytestmark = pytest.mark.django_db(transaction=True)


def send(port: int, method: str, path: str, token: str, body: bytes | str = b"", **headers: str) -> httpx.Response:
    return httpx.request(
        method,
        f"http://127.0.0.1:{port}{path}",
        content=body,
        headers={"Authorization": f"Bearer {token}".strip(), **headers},
        trust_env=False,
        timeout=30,
    )


def patiently(port: int, method: str, path: str, box, body: bytes | str = b"", **headers: str) -> httpx.Response:
    """As an agent does: 503 means again. (SQLite's database in memory does not wait for another thread that writes.)"""
    for _ in range(200):
        answer = send(port, method, path, box.jwt(), body, **headers)
        if answer.status_code != 503:
            return answer
        time.sleep(0.05)
    return answer


@pytest.fixture
def lease(box):
    lease = placement.open_lease(workload=make_workload(), by=None)
    box.runs(lease)
    return lease


def test_readings_count_once(site, box, lease):  # noqa: F811
    batch = box.batch(box.reading(lease, Meter.TRANSFER, 100))
    answers = [patiently(site, "POST", READINGS_PATH, box, batch) for _ in range(2)]
    assert [(answer.status_code, answer.json()["duplicate"]) for answer in answers] == [(200, False), (200, True)]
    assert MeterTotal.objects.get().total == 100
    assert ReadingBatch.objects.get().jws == batch


def test_desired_is_told_once_and_then_304_until_it_changes(site, box, lease):  # noqa: F811
    first = patiently(site, "GET", DESIRED_PATH, box)
    assert first.json()["leases"][0]["lease_id"] == str(lease.pk)
    assert (first.headers["Cache-Control"], first.headers["Content-Type"]) == ("no-store", "application/json")
    again = patiently(site, "GET", DESIRED_PATH, box, **{"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    leases.close_lease(lease_id=lease.pk, by=None)
    assert patiently(site, "GET", DESIRED_PATH, box, **{"If-None-Match": first.headers["ETag"]}).status_code == 200


def test_a_report_moves_a_lease_and_a_wrong_one_is_refused_as_django_refuses_it(site, box, client):  # noqa: F811
    lease = placement.open_lease(workload=make_workload(), by=None)
    status = Status(str(lease.pk), lease.generation, Observed.PREPARING)
    answer = patiently(site, "POST", REPORT_PATH, box, to_json(Report(statuses=(status,))))
    assert (answer.status_code, answer.content) == (204, b"")
    lease.refresh_from_db()
    assert lease.state == "preparing"
    for body in (b"no JSON", b'{"statuses": 1}', b"\xff"):
        ours = patiently(site, "POST", REPORT_PATH, box, body)
        headers = {"Authorization": f"Bearer {box.jwt()}"}
        django = client.post(REPORT_PATH, body, content_type="application/json", headers=headers)
        assert (ours.status_code, ours.json()) == (django.status_code, django.json()) == (400, ours.json())


WRONG = {
    "no token": ("", lambda box: b"x"),
    "no such token": ("x", lambda box: b"x"),
    "a token used before": ("used", lambda box: b"x"),
    "no JWS": ("good", lambda box: b"x"),
    "no text": ("good", lambda box: b"\xff\xfe"),
    "not a batch": ("good", lambda box: box.sign(b"{}")),
    "tampered": ("good", lambda box: box.batch()[:-4] + "AAAA"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_refused_as_django_refuses_it_and_leaves_a_trace(site, box, client, wrong):  # noqa: F811
    kind, make = WRONG[wrong]
    body, tokens = make(box), [box.jwt(), box.jwt()]
    if kind == "used":
        for token in tokens:
            client.get(DESIRED_PATH, headers={"Authorization": f"Bearer {token}"})
    tokens = tokens if kind in ("good", "used") else [kind, kind]
    ours = send(site, "POST", READINGS_PATH, tokens[0], body)
    headers = {"Authorization": f"Bearer {tokens[1]}"}
    django = client.post(READINGS_PATH, body, content_type="application/jose", headers=headers)
    assert (ours.status_code, ours.json()) == (django.status_code, django.json())
    traces = list(
        AuditEvent.objects.filter(action="request_refused").order_by("-id").values("subject", "actor", "data")[:2]
    )
    assert traces[0] == traces[1]
    assert not ReadingBatch.objects.exists()


def test_a_removed_device_is_told_so_and_strangers_learn_nothing(site, box, cast):  # noqa: F811
    devices.revoke_device(device=box.device, by=cast.owner)
    answer = patiently(site, "GET", DESIRED_PATH, box)
    assert (answer.status_code, answer.json()["code"]) == (403, "device_revoked")
    other = make_device(cast.stranger, "Other")
    assert patiently(site, "GET", DESIRED_PATH, other).json()["leases"] == []


def test_a_body_that_is_too_large_is_refused_while_it_arrives(site, box):  # noqa: F811
    answer = send(site, "POST", READINGS_PATH, box.jwt(), b"x" * (MAX_BODY_BYTES + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_more_calls_than_can_wait_are_asked_to_come_again():
    calls, go = Calls(threads=1, most_waiting=3), threading.Event()

    async def crowd() -> list[object]:
        waiting = [asyncio.create_task(calls.run(lambda: (go.wait(30), Answer(200))[1])) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await calls.run(lambda: Answer(200))
        go.set()
        found = await asyncio.gather(*waiting)
        return [*found, await calls.run(lambda: Answer(204))]

    assert [answer.status for answer in asyncio.run(crowd())] == [200, 200, 200, 204]
    calls.close()


@pytest.mark.postgres
@pytest.mark.skipif(connection.vendor != "postgresql", reason="Only PostgreSQL can hang up: SQLite is in the process.")
def test_a_database_that_hung_up_costs_one_answer_and_no_reading(site, box, lease):  # noqa: F811
    assert patiently(site, "GET", DESIRED_PATH, box).status_code == 200
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    batch = box.batch(box.reading(lease, Meter.TRANSFER, 100))
    assert send(site, "POST", READINGS_PATH, box.jwt(), batch).status_code in (200, 503)
    assert patiently(site, "POST", READINGS_PATH, box, batch).status_code == 200
    assert MeterTotal.objects.get().total == 100
