"""What a device claims to have sent and received, beside what the gateway saw."""

from __future__ import annotations

from datetime import date

import pytest
from django.utils import timezone

from interchain_site.testing.devices import make_device, make_workload
from nodes import traffic_check
from nodes.agent.protocol import Observed
from nodes.models import GatewayCount, MeterTotal
from nodes.services import placement

pytestmark = pytest.mark.django_db


def claim(lease, total, sequence):
    MeterTotal.objects.create(
        lease=lease, meter="transfer", total=total, method="interface", at=timezone.now(), sequence=sequence
    )


def saw(lease, total):
    now = timezone.now()
    GatewayCount.objects.create(workload_id=lease.workload_id, month=date(2026, 11, 1), bytes=total, updated_at=now)


def test_claims_and_sight_stand_side_by_side(box, django_assert_num_queries):
    lease = placement.open_lease(workload=make_workload(), by=None)
    claim(lease, 3_000, 1)
    saw(lease, 2_000)
    with django_assert_num_queries(2):
        found = traffic_check.of_workloads([lease.workload_id])[lease.workload_id]
    assert (found.claimed, found.seen, found.ratio) == (3_000, 2_000, 1.5)
    assert traffic_check.of_device(box.device) == found
    with django_assert_num_queries(3):
        assert traffic_check.of_late() == {box.device.pk: found}


def test_nothing_seen_has_no_ratio(box):
    lease = placement.open_lease(workload=make_workload(), by=None)
    claim(lease, 3_000, 1)
    assert traffic_check.of_device(box.device).ratio is None


def test_what_moved_between_devices_says_nothing_of_either(box, cast):
    lease = placement.open_lease(workload=make_workload(), by=None)
    box.runs(lease)
    saw(lease, 1_000)
    box.says(lease, Observed.FAILED)
    other = make_device(cast.stranger, "Other")
    lease.pk, lease.generation, lease.is_newest, lease.device = None, 2, False, other.device
    lease.action, lease.closed_at = "stop", timezone.now()
    lease.save(force_insert=True)
    assert traffic_check.of_device(box.device).seen == 0
