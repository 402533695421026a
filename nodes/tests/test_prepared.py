"""Queries made once: the same rows as Django's own, for other values, on other threads, and after the connection was closed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from interchain_site.testing.devices import make_device, make_workload
from nodes.conftest import eventually
from nodes.models import Device, Lease
from nodes.prepared import Given, Prepared
from nodes.services import placement

pytestmark = pytest.mark.django_db

BY_ID = Prepared(lambda: Device.objects.filter(pk=Given(0, Device._meta.pk)).order_by())
COLUMNS = ("pk", "opened_at", "has_volume", "device__capacity")


def opened_before():
    opened_at = Given(1, Lease._meta.get_field("opened_at"))
    return Lease.objects.filter(device=Given(0, Device._meta.pk), opened_at__lt=opened_at).values_list(*COLUMNS)


BEFORE = Prepared(opened_before)


def values(device: Device | None) -> dict[str, object]:
    assert device is not None
    return {field.attname: getattr(device, field.attname) for field in Device._meta.concrete_fields}


def test_each_device_is_found_as_django_finds_it(cast):
    for name in ("One", "Two"):
        box = make_device(cast.owner, name)
        found = BY_ID.first(box.device.pk)
        assert values(found) == values(Device.objects.get(pk=box.device.pk))
        found.name = "Renamed"
        found.save()
        assert Device.objects.get(pk=box.device.pk).name == "Renamed"
    Device.objects.filter(pk=box.device.pk).update(agent_version="9.9")
    assert BY_ID.first(box.device.pk).agent_version == "9.9", "nothing is remembered but the query"


def test_rows_are_the_values_django_gives(box):
    placement.open_lease(workload=make_workload(), by=None)
    for moment in (timezone.now() + timedelta(days=1), timezone.now() - timedelta(days=1)):
        expected = Lease.objects.filter(device=box.device, opened_at__lt=moment).values_list(*COLUMNS)
        assert [tuple(row) for row in BEFORE.rows(box.device.pk, moment)] == list(expected)
    assert len(expected) == 0


def test_no_query_is_made_but_the_one(box, django_assert_num_queries):
    BY_ID.first(box.device.pk)
    with django_assert_num_queries(1):
        BY_ID.first(box.device.pk)


def test_a_thread_makes_its_own(box, transactional_db):
    def ask() -> Device | None:
        try:
            return BY_ID.first(box.device.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: eventually(ask), range(6)))
    assert {device.pk for device in found} == {box.device.pk}
