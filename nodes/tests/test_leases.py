"""A lease from offer to wipe: what moves it, what does not, and who is told."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import timedelta

import pytest

from interchain_site.core.models import AuditEvent
from interchain_site.testing.devices import make_device, make_workload
from nodes import queries
from nodes.agent.protocol import Action, Observed, Reason, Report, Status
from nodes.errors import Conflict, Malformed, NotFound
from nodes.models import Lease
from nodes.services import endpoints, leases, placement, receipts
from nodes.signals import lease_changed, leases_opened, workload_wiped


@pytest.fixture
def told():
    """What `leases_opened` and `lease_changed` told, as (state, reason)."""
    heard = []

    def opened(workload_ids, **_):
        heard.extend(("offered", "") for _ in workload_ids)

    def changed(state, reason, **_):
        heard.append((state, reason))

    leases_opened.connect(opened)
    lease_changed.connect(changed)
    yield heard
    leases_opened.disconnect(opened)
    lease_changed.disconnect(changed)


def test_the_whole_life(box, told):
    workload = make_workload(volume_path="/data")
    lease = placement.open_lease(workload=workload, by=None)
    box.runs(lease)
    box.says(lease, Observed.UNHEALTHY, host_port=40_000, reason=Reason.UNHEALTHY, message="GET / answered 500.")
    box.says(lease, Observed.RUNNING, host_port=40_000)
    leases.close_lease(lease_id=lease.pk, by=None, reason="Out of NTC.")
    box.says(lease, Observed.STOPPED)
    assert (lease.state, lease.message) == ("stopped", "Out of NTC.")
    leases.wipe_lease(lease_id=lease.pk, by=None)
    box.wipes(lease)
    assert lease.state == "wiped"
    assert told == [
        ("offered", ""),
        ("preparing", ""),
        ("running", ""),
        ("unhealthy", "unhealthy"),
        ("running", ""),
        ("draining", ""),
        ("stopped", ""),
        ("wiped", ""),
    ]


def test_the_environment_is_encrypted_at_rest_and_whole_for_the_device(box):
    workload = make_workload(environment={"TOKEN": "s3cret"})
    lease = placement.open_lease(workload=workload, by=None)
    row = Lease.objects.filter(pk=lease.pk).values().get()
    assert "s3cret" not in str(row)
    assert queries.desired_of(box.device).leases[0].workload == workload


def test_failed_ends_the_lease_with_its_reason_and_last_lines(box, told):
    lease = placement.open_lease(workload=make_workload(), by=None)
    box.says(lease, Observed.FAILED, reason=Reason.OUT_OF_MEMORY, message="Grew past 500 MB.", log_tail="a\x00b\ud800")
    assert (lease.state, lease.action, lease.reason) == ("stopped", "stop", "out_of_memory")
    assert lease.log_tail == "a�b?"
    assert told[-1] == ("stopped", "out_of_memory")
    assert [wanted.action for wanted in queries.desired_of(box.device).leases] == [Action.STOP]
    Lease.objects.update(stopped_at=lease.stopped_at - timedelta(hours=1))
    assert queries.desired_of(box.device).leases == ()


def test_what_keeps_data_stays_listed_so_that_its_storage_is_counted_until_it_is_wiped(box):
    lease = placement.open_lease(workload=make_workload(volume_path="/data"), by=None)
    box.runs(lease)
    leases.close_lease(lease_id=lease.pk, by=None)
    box.says(lease, Observed.STOPPED)
    Lease.objects.update(stopped_at=lease.stopped_at - timedelta(days=3))
    assert [wanted.action for wanted in queries.desired_of(box.device).leases] == [Action.STOP]
    leases.wipe_lease(lease_id=lease.pk, by=None)
    box.wipes(lease)
    assert queries.desired_of(box.device).leases == ()


def test_data_stays_listed_while_a_later_release_without_a_volume_takes_its_place(box):
    workload = make_workload(volume_path="/data")
    first = placement.open_lease(workload=workload, by=None)
    box.runs(first)
    later = dataclasses.replace(workload, volume_path="")
    second = placement.replace_workload(lease_id=first.pk, workload=later, by=None)
    box.says(first, Observed.STOPPED)
    box.runs(second)
    Lease.objects.filter(pk=first.pk).update(stopped_at=first.stopped_at - timedelta(days=3))
    assert [wanted.lease_id for wanted in queries.desired_of(box.device).leases] == [str(first.pk), str(second.pk)]


def test_reports_of_a_stale_generation_or_another_device_change_nothing(box, cast):
    lease = placement.open_lease(workload=make_workload(), by=None)
    other = make_device(cast.publisher, "Other")
    stale = dataclasses.replace(lease_status(lease), generation=lease.generation + 1)
    leases.handle_report(device=box.device, report=Report(statuses=(stale,)))
    leases.handle_report(device=other.device, report=Report(statuses=(lease_status(lease),)))
    unknown = dataclasses.replace(lease_status(lease), lease_id=str(uuid.uuid4()))
    leases.handle_report(
        device=box.device, report=Report(statuses=(unknown, dataclasses.replace(unknown, lease_id="x")))
    )
    lease.refresh_from_db()
    assert lease.state == "offered"


def lease_status(lease):
    return Status(str(lease.pk), lease.generation, Observed.RUNNING, host_port=40_000)


def test_a_superseded_generation_can_only_stop(box):
    workload = make_workload()
    first = placement.open_lease(workload=workload, by=None)
    box.runs(first)
    second = placement.replace_workload(lease_id=first.pk, workload=workload, by=None)
    assert second.generation == 2
    box.says(first, Observed.RUNNING, host_port=40_000)
    assert (first.state, first.action) == ("draining", "stop")
    assert queries.lease_summary(workload.id).lease_id == second.pk
    box.says(first, Observed.STOPPED)
    assert first.state == "stopped"


def test_a_running_workload_is_not_opened_twice(box):
    workload = make_workload()
    placement.open_lease(workload=workload, by=None)
    with pytest.raises(Conflict, match="already runs"):
        placement.open_lease(workload=workload, by=None)


def test_two_workloads_do_not_share_a_name(box):
    placement.open_lease(workload=make_workload("blog"), by=None)
    with pytest.raises(Conflict, match="taken"):
        placement.open_lease(workload=make_workload("blog"), by=None)


def test_closing_is_idempotent_and_audited_once(box, cast, told):
    lease = placement.open_lease(workload=make_workload(), by=cast.publisher)
    for _ in range(3):
        leases.close_lease(lease_id=lease.pk, by=cast.publisher)
    assert [state for state, _ in told] == ["offered", "draining"]
    assert AuditEvent.objects.filter(action="lease_closed").count() == 1


def test_wiping_waits_for_the_stop_and_for_the_receipt(box):
    lease = placement.open_lease(workload=make_workload(volume_path="/data"), by=None)
    box.runs(lease)
    with pytest.raises(Conflict, match="Stop it"):
        leases.wipe_lease(lease_id=lease.pk, by=None)
    with pytest.raises(Conflict, match="Nobody asked"):
        box.wipes(lease)
    leases.close_lease(lease_id=lease.pk, by=None)
    box.says(lease, Observed.STOPPED)
    leases.wipe_lease(lease_id=lease.pk, by=None)
    box.says(lease, Observed.WIPED)
    assert lease.state == "stopped"
    assert [wanted.action for wanted in queries.desired_of(box.device).leases] == [Action.WIPE]


def test_a_workload_is_wiped_when_every_generation_is_and_its_receipt_goes_to_the_listener(box):
    workload, heard = make_workload(volume_path="/data"), []

    def listen(workload_id, receipt, **_):
        heard.append((str(workload_id), receipt))

    workload_wiped.connect(listen)
    first = placement.open_lease(workload=workload, by=None)
    box.runs(first)
    second = placement.replace_workload(lease_id=first.pk, workload=workload, by=None)
    box.says(first, Observed.STOPPED)
    box.runs(second)
    leases.close_lease(lease_id=second.pk, by=None)
    box.says(second, Observed.STOPPED)
    leases.wipe_lease(lease_id=second.pk, by=None)
    box.wipes(second)
    assert heard == []
    receipt = box.receipt(first)
    for _ in range(2):
        receipts.take(device=box.device, jws=receipt)
    assert heard == [(workload.id, receipt)]
    workload_wiped.disconnect(listen)


def test_a_workload_being_wiped_is_not_started(box):
    workload = make_workload(volume_path="/data")
    lease = placement.open_lease(workload=workload, by=None)
    leases.close_lease(lease_id=lease.pk, by=None)
    box.says(lease, Observed.STOPPED)
    leases.wipe_lease(lease_id=lease.pk, by=None)
    with pytest.raises(Conflict, match="being deleted"):
        placement.open_lease(workload=workload, by=None)
    box.wipes(lease)
    assert placement.open_lease(workload=workload, by=None).generation == 2


def test_a_lost_lease_goes_on_when_its_device_comes_back(box):
    lease = placement.open_lease(workload=make_workload(), by=None)
    box.runs(lease)
    since = lease.running_at
    leases.mark_lost(lease.pk)
    box.says(lease, Observed.RUNNING, host_port=40_000)
    assert (lease.state, lease.running_at) == ("running", since)


def test_a_lost_lease_that_was_replaced_stops_when_its_device_comes_back(box, cast):
    workload = make_workload()
    lease = placement.open_lease(workload=workload, by=None)
    box.runs(lease)
    leases.mark_lost(lease.pk)
    second = placement.open_lease(workload=workload, by=None)
    box.says(lease, Observed.RUNNING, host_port=40_000)
    assert (lease.state, lease.action, second.generation) == ("draining", "stop", 2)


@pytest.mark.parametrize("port", [-1, 80, 70_000])
def test_a_port_that_cannot_be_an_apps_is_refused(box, port):
    lease = placement.open_lease(workload=make_workload(), by=None)
    with pytest.raises(Malformed):
        box.says(lease, Observed.RUNNING, host_port=port)
    lease.refresh_from_db()
    assert lease.state == "offered"


@pytest.mark.parametrize("port", [2019, 6379, 8001, 12_111])
@pytest.mark.parametrize("private", [True, False])
def test_the_portals_own_ports_are_not_served_under_a_public_name(box, settings, port, private):
    settings.PRIVATE_ENDPOINTS = private  # a device may also name the portal's own public address
    settings.GATEWAY_ADMIN_URL = "http://127.0.0.1:2019"
    settings.GATEWAY_PORTAL_UPSTREAM = "web:8001"
    settings.STRIPE_API_BASE = "http://127.0.0.1:12111"
    settings.REDIS_URL = "redis://redis/0"
    with pytest.raises(Malformed, match="own ports"):
        endpoints.check_port(box.device.endpoint_host, port)


def test_an_unknown_lease_is_not_found(db):
    with pytest.raises(NotFound):
        leases.close_lease(lease_id=uuid.uuid4(), by=None)
