"""What is written down of slots that lose their device, and what screens make of it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from celery import current_app
from django.utils import timezone

from interchain_site.testing.devices import make_device, make_workload
from nodes import replica_queries
from nodes.agent.protocol import Observed, Reason
from nodes.models import Device, Failover, Lease
from nodes.services import leases, liveness, scaling
from nodes.tests import replicas
from nodes.tests.replicas import box_of, newest


@pytest.fixture
def boxes(cast):
    return [make_device(cast.owner, f"Box {n}") for n in range(4)]


def cut(boxes, lease):
    liveness.lose(Device.objects.get(pk=lease.device_id))


def running(boxes, name="blog", **wishes):
    workload = make_workload(name=name)
    replicas.running(boxes, workload, **wishes)
    return workload


def test_a_cold_failover_has_its_times_and_generations(boxes, commit):
    workload = running(boxes)
    first = newest(workload)
    with commit():
        cut(boxes, first)
    row = Failover.objects.get()
    second = newest(workload)
    assert (row.lost_lease_id, row.new_lease_id, row.outcome) == (first.pk, second.pk, "under_way")
    assert (row.lost_generation, row.new_generation) == (first.generation, second.generation)
    assert (row.recovery_seconds, row.served_meanwhile) == (None, False)
    box_of(boxes, second).runs(second, 40_001)
    row.refresh_from_db()
    assert (row.outcome, row.served_meanwhile) == ("replaced", False)
    assert row.noticed_at <= row.elected_at <= row.ended_at


def test_a_promoted_standby_is_called_so_though_its_lease_stays(boxes, commit):
    workload = running(boxes, standby=True)
    first, standby = newest(workload), Lease.objects.get(action="standby")
    with commit():
        cut(boxes, first)
    promoted = newest(workload)
    assert promoted.pk == standby.pk
    box_of(boxes, promoted).says(promoted, Observed.RUNNING, host_port=40_009)
    assert Failover.objects.get().outcome == "promoted"


def test_with_another_replica_clients_were_served(boxes, commit):
    workload = running(boxes, replicas=2)
    with commit():
        cut(boxes, newest(workload, 1))
    row = Failover.objects.get()
    assert (row.slot, row.served_meanwhile) == (1, True)


def test_a_second_loss_before_the_first_is_mended_counts_from_the_first(boxes, commit):
    workload = running(boxes)
    with commit():
        cut(boxes, newest(workload))
    began_at = Failover.objects.get().noticed_at
    with commit():
        cut(boxes, newest(workload))
    third = newest(workload)
    box_of(boxes, third).runs(third, 40_003)
    row = Failover.objects.get()
    assert (row.noticed_at, row.new_lease_id, row.outcome) == (began_at, third.pk, "replaced")


def test_a_device_that_comes_back_in_time_goes_on(cast, commit):
    boxes = [make_device(cast.owner, "Only one")]
    workload = running(boxes)
    first = newest(workload)
    with commit():
        cut(boxes, first)
    first.refresh_from_db()
    boxes[0].says(first, Observed.RUNNING, host_port=40_000)
    assert Failover.objects.get().outcome == "returned"


def test_what_the_device_could_not_do_counts_and_what_the_app_did_does_not(boxes, commit):
    workload = running(boxes)
    first = newest(workload)
    with commit():
        box_of(boxes, first).says(first, Observed.FAILED, reason=Reason.DEVICE_ERROR)
    assert Failover.objects.get().reason == Reason.DEVICE_ERROR.value
    other = running(boxes, "other")
    last = newest(other)
    with commit():
        box_of(boxes, last).says(last, Observed.FAILED, reason=Reason.OUT_OF_MEMORY)
    assert Failover.objects.count() == 1


def test_stopping_and_scaling_down_call_it_off(cast, commit):
    boxes = [make_device(cast.owner, f"Box {n}") for n in range(2)]
    workload = running(boxes, replicas=2)
    with commit():
        cut(boxes, newest(workload, 1))
    scaling.scale(workload_id=workload_id(workload), replicas=1, standby=False, by=None)
    assert Failover.objects.get().outcome == "called_off"
    with commit():
        cut(boxes, newest(workload, 0))
    leases.close_workload(workload_id=workload_id(workload), by=None)
    assert set(Failover.objects.values_list("outcome", flat=True)) == {"called_off"}
    assert Failover.objects.first().recovery_seconds is None


def workload_id(workload):
    return Lease.objects.filter(workload_id=workload.id).first().workload_id


def test_a_standby_that_is_lost_is_no_failover(boxes, commit):
    running(boxes, standby=True)
    with commit():
        cut(boxes, Lease.objects.get(action="standby"))
    assert not Failover.objects.exists()


def test_screens_see_each_replica_and_those_that_have_nobody(cast, commit, django_assert_num_queries):
    boxes = [make_device(cast.owner, f"Box {n}") for n in range(3)]
    workload = running(boxes, replicas=2, standby=True)
    identifier = workload_id(workload)
    with django_assert_num_queries(1):
        rows = replica_queries.replicas_of(identifier, wanted=3)
    assert [(row.number, row.role, row.reachable) for row in rows] == [
        (1, "active", "yes"), (2, "active", "yes"), (3, "active", "not yet"), (0, "standby", "when it is needed"),
    ]  # fmt: skip
    before = replica_queries.fingerprint(rows, replica_queries.failovers_of(identifier))
    lost = newest(workload, 0)
    liveness.lose(Device.objects.get(pk=lost.device_id))  # not committed yet: nobody was elected
    rows = replica_queries.replicas_of(identifier, wanted=2)
    assert (rows[0].state_label, rows[0].reachable, rows[1].reachable) == ("not heard", "no answer", "yes")
    with django_assert_num_queries(1):
        failovers = replica_queries.failovers_of(identifier)
    assert failovers[0].cause == "stopped answering"
    assert replica_queries.fingerprint(rows, failovers) != before


def test_times_are_said_as_precisely_as_they_are_known():
    said = [replica_queries.seconds_in_words(seconds) for seconds in (None, 0.84, 12.3, 125)]
    assert said == ["–", "0.8 s", "12 s", "2 min 5 s"]


def test_a_failover_that_ended_says_how(boxes, commit):
    from django.db import IntegrityError, transaction

    workload = running(boxes)
    with commit():
        cut(boxes, newest(workload))
    with pytest.raises(IntegrityError), transaction.atomic():
        Failover.objects.update(ended_at=timezone.now() + timedelta(seconds=1))


def test_every_periodic_task_is_one_the_workers_know():
    current_app.loader.import_default_modules()
    rows = current_app.conf.beat_schedule.values()
    assert json.dumps([row["task"] for row in rows if row["task"] not in current_app.tasks]) == "[]"
