"""The public status page: right figures, of regions only, counted seldom."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.urls import reverse
from django.utils import timezone

from interchain_site.testing.devices import make_device, make_workload
from nodes import public_status
from nodes.models import Device, Failover, Lease
from nodes.regions import CENTRES, Region
from nodes.services import placement


@pytest.fixture(autouse=True)
def nothing_kept():
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def served(cast):
    boxes = [make_device(cast.owner, f"Attic of {cast.owner.email}") for _ in range(3)]
    placement.open_lease(workload=make_workload(name="secretapp"), replicas=2, by=None)
    for lease in Lease.objects.all():
        next(box for box in boxes if box.device.pk == lease.device_id).runs(lease, 40_000 + lease.slot)
    return boxes


def failed_over(seconds, *, hours_ago=0.0, outcome="replaced"):
    lease = Lease.objects.first()
    at = timezone.now() - timedelta(hours=hours_ago)
    return Failover.objects.create(
        workload_id=lease.workload_id,
        slot=0,
        lost_lease=lease,
        lost_generation=1,
        served_meanwhile=False,
        noticed_at=at,
        ended_at=None if seconds is None else at + timedelta(seconds=seconds),
        outcome="under_way" if seconds is None else outcome,
    )


def test_the_figures(client, served):
    for seconds in (2, 4, 30):
        failed_over(seconds)
    failed_over(3600, outcome="called_off")
    failed_over(None)
    failed_over(500, hours_ago=25)
    now = public_status.count()
    assert (now.apps, now.replicas, now.devices) == (1, 2, 3)
    assert (now.failovers, now.under_way, now.median_seconds) == (5, 1, 4)
    page = client.get(reverse("status")).text
    for words in ("In 2 replicas", "1 under way", "4.0 s", "United States"):
        assert words in page


def test_nothing_of_a_device_an_owner_or_an_app_is_told(client, served, cast):
    page = client.get(reverse("status")).text
    told = ("Attic", cast.owner.email, "secretapp", "127.0.0.1", *(str(box.device.pk) for box in served))
    assert not [word for word in told if word in page]
    latitude, longitude = CENTRES[Region.US]
    assert re.search(rf'cx="{(longitude + 180) * 2:.1f}" cy="{(public_status.NORTH - latitude) * 2:.1f}"', page)


def test_every_region_has_its_place_on_the_map():
    assert set(CENTRES) == set(Region)
    for latitude, longitude in CENTRES.values():
        assert 0 < (longitude + 180) * 2 < public_status.MAP_WIDTH
        assert 0 < (public_status.NORTH - latitude) * 2 < public_status.MAP_HEIGHT


def test_many_readers_cost_one_count(client, served, django_assert_num_queries):
    with django_assert_num_queries(5):
        client.get(reverse("status"))
    with django_assert_num_queries(0):
        for _ in range(5):
            assert client.get(reverse("status")).status_code == 200


def test_old_figures_are_shown_while_another_counts(served, monkeypatch, django_assert_num_queries):
    known = public_status.current()
    Device.objects.update(state="offline")
    later = timezone.now() + timedelta(seconds=public_status.FRESH_SECONDS + 1)
    monkeypatch.setattr(public_status.timezone, "now", lambda: later)
    cache.add("nodes:public-status:turn", 1, 60)
    with django_assert_num_queries(0):
        assert public_status.current() == known
    cache.delete("nodes:public-status:turn")
    assert public_status.current().devices == 0


def test_before_anything_runs(client, db):
    page = client.get(reverse("status"))
    assert page.status_code == 200
    assert "None under way" in page.text
    assert client.post(reverse("status")).status_code == 405
