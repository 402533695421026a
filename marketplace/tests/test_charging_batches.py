"""Thousands of leases in one pass: a constant number of queries, and one worker at a time."""

from __future__ import annotations

import datetime as dt
import threading
import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.queries import balances
from marketplace.conftest import NTC, fund
from marketplace.models import App, Charge, ChargePeriod, Deployment, Release
from marketplace.services import charging
from nodes.agent.protocol import Meter
from nodes.models import Lease, MeterTotal
from nodes.services.totals import Total, raise_totals


def many_leases(count, *, cast, device, price_list) -> list[Lease]:
    """Running deployments made straight in the database, quickly."""
    now = timezone.now() - dt.timedelta(hours=1)
    apps = App.objects.bulk_create(
        App(publisher=cast.publisher, name=f"App {n}", slug=f"app-{uuid.uuid4().hex[:12]}") for n in range(count)
    )
    releases = Release.objects.bulk_create(
        Release(app=app, number=1, image_reference="x", port=80, memory_bytes=1, cpu_millis=1, disk_bytes=0, created_by=cast.publisher)
        for app in apps
    )  # fmt: skip
    deployments = Deployment.objects.bulk_create(
        Deployment(app=release.app, release=release, price_list=price_list, state="running", state_changed_at=now, created_at=now, created_by=cast.publisher, lease_id=uuid.uuid4())
        for release in releases
    )  # fmt: skip
    leases = Lease.objects.bulk_create(
        Lease(id=row.lease_id, workload_id=row.pk, generation=1, device=device.device, name=row.app.slug, state="running", workload_public={}, image_key="x", cpu_millis=1, memory_bytes=1, disk_bytes=0, has_volume=False, opened_at=now, state_changed_at=now)
        for row in deployments
    )  # fmt: skip
    ChargePeriod.objects.bulk_create(
        ChargePeriod(lease_id=row.lease_id, deployment=row, price_list=price_list, publisher=cast.publisher, owner=cast.owner, device_id=device.id, opened_at=now, charged_at=now)
        for row in deployments
    )  # fmt: skip
    return leases


def measure(leases, uptime):
    at = timezone.now()
    for first in range(0, len(leases), 100):
        some = leases[first : first + 100]
        raise_totals([Total(lease.pk, meter, uptime, "clock", at) for lease in some for meter in Meter])


def test_the_number_of_queries_does_not_grow_with_the_batch(cast, device, price_list, rate):
    fund(cast.publisher, 10_000_000 * NTC)
    counts = []
    for count in (1, 3, 30):  # the first pass also makes accounts
        leases = many_leases(count, cast=cast, device=device, price_list=price_list)
        measure(leases, 1000)
        with CaptureQueriesContext(connection) as queries:
            assert charging.charge_new_readings().leases == count
        counts.append(len(queries))
    _, few, many = counts
    # SQLite's ledger writes a posting at a time and takes at most 999 values in a statement; PostgreSQL takes one of each.
    if connection.vendor == "postgresql":
        assert many == few
    assert many <= 40 + (0 if connection.vendor == "postgresql" else 2 * 30)


def test_an_amount_no_ledger_can_hold_does_not_keep_others_from_being_charged(cast, device, price_list, rate):
    fund(cast.publisher, 10_000_000 * NTC)
    leases = many_leases(5, cast=cast, device=device, price_list=price_list)
    measure(leases, 1000)
    for lease, total in ((leases[1], 2**63 - 1), (leases[2], 2**55)):  # too much for a period, and for an entry
        MeterTotal.objects.filter(lease=lease, meter=Meter.COMPUTE.value).update(total=total)
    assert charging.charge_new_readings().leases == 3
    assert set(Charge.objects.values_list("period__lease_id", flat=True)) == {leases[n].pk for n in (0, 3, 4)}
    assert balances(cast.owner.pk).earnings_held == sum(ChargePeriod.objects.values_list("owner_units", flat=True))
    measure(leases[3:], 2000)
    assert charging.charge_new_readings().leases == 2


def test_a_limit_takes_the_rest_next_time(cast, device, price_list, rate):
    fund(cast.publisher, 10_000_000 * NTC)
    leases = many_leases(5, cast=cast, device=device, price_list=price_list)
    measure(leases, 1000)
    passes = []
    while (passed := charging.charge_new_readings(limit=2)).leases:
        passes.append((passed.leases, passed.more))
    assert passes == [(2, True), (2, True), (1, False)]
    assert Charge.objects.count() == 5


@pytest.mark.postgres
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="needs PostgreSQL's row locks")
@pytest.mark.django_db(transaction=True)
def test_workers_at_the_same_time_charge_each_reading_once(cast, device, price_list, rate):
    fund(cast.publisher, 10_000_000 * NTC)
    leases = many_leases(200, cast=cast, device=device, price_list=price_list)
    measure(leases, 3_600_000)
    start, failures = threading.Barrier(4), []

    def work():
        try:
            start.wait()
            for _ in range(30):
                charging.charge_new_readings(limit=20)
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    while charging.charge_new_readings().leases:
        pass
    assert failures == []
    assert Charge.objects.count() == 200
    assert balances(cast.owner.pk).earnings_held == sum(ChargePeriod.objects.values_list("owner_units", flat=True))
