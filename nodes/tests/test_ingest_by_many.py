"""Two web processes take the same readings at once, on PostgreSQL: exactly one effect, whoever comes first."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from django.conf import settings
from django.db import connection

from interchain_site.testing.devices import make_device, make_workload
from interchain_site.testing.servers import free_port, running
from nodes import queries
from nodes.agent.protocol import READINGS_PATH, Meter
from nodes.models import CappedClaim, MeterTotal, ReadingBatch
from nodes.services import placement

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="Row locks between processes need PostgreSQL."),
]


@pytest.fixture
def portals(valkey_url, tmp_path: Path) -> Iterator[list[str]]:
    """Two web processes of one site, as production runs them; yields their addresses."""
    database = connection.settings_dict
    url = f"postgres://{database['USER']}@{database['HOST']}:{database['PORT']}/{quote(database['NAME'])}"
    environment = {**os.environ, "DATABASE_URL": url, "REDIS_URL": valkey_url, "DATA_DIR": str(tmp_path)}
    environment["PORTAL_URL"] = settings.PORTAL_URL
    addresses = []
    with ExitStack() as stack:
        for _ in range(2):
            port = free_port()
            command = [sys.executable, "-m", "uvicorn", "interchain_site.asgi:application", "--port", str(port)]
            stack.enter_context(running(command, port=port, log=tmp_path / f"{port}.log", env=environment))
            addresses.append(f"http://127.0.0.1:{port}")
        yield addresses


def deliver(portals: list[str], box, batches: list[str]) -> list[bool]:
    """Post each batch to both processes at the same moment; returns which answers said `duplicate`."""
    start = threading.Barrier(len(portals) * len(batches))

    def post(portal: str, jws: str, token: str) -> bool:
        with httpx.Client(trust_env=False, timeout=60) as client:
            start.wait(60)
            answer = client.post(portal + READINGS_PATH, content=jws, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200, answer.text
        return bool(answer.json()["duplicate"])

    work = [(portal, jws, box.jwt()) for jws in batches for portal in portals]
    random.Random(7).shuffle(work)
    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(lambda one: post(*one), work))


def test_the_same_and_different_batches_through_two_processes_have_one_effect(portals, cast):
    box = make_device(cast.owner)
    leases = [placement.open_lease(workload=make_workload(f"app{n}"), by=None) for n in range(3)]
    for wave in range(3):
        first = wave * 1000
        totals = range(first + 100, first + 1100, 100)
        batches = [box.batch(*(box.reading(lease, Meter.TRANSFER, total) for lease in leases)) for total in totals]
        duplicates = deliver(portals, box, batches)
        assert sorted(duplicates) == [False] * len(batches) + [True] * len(batches)
        found = queries.usage_totals(lease_ids=[lease.pk for lease in leases])
        assert found == {lease.pk: {Meter.TRANSFER: totals[-1]} for lease in leases}
    assert ReadingBatch.objects.count() == 30
    newest = {row.batch_id for row in MeterTotal.objects.all()}
    assert len(newest) == 1, "the three leases' totals rest on the one batch with the highest"
    places = queries.leases_with_new_readings(after=0, limit=9)
    assert sorted(lease_id for lease_id, _ in places) == sorted(lease.pk for lease in leases)
    assert len({place for _, place in places}) == 3


def test_a_capped_batch_through_two_processes_is_noted_once(portals, cast):
    box = make_device(cast.owner)
    lease = placement.open_lease(workload=make_workload(), by=None)
    batches = [box.batch(box.reading(lease, Meter.UPTIME, 2**60 + n)) for n in range(6)]
    deliver(portals, box, batches)
    row = CappedClaim.objects.get()
    assert (row.claims, row.claimed >> 3) == (6, 2**57)
