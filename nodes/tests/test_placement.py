"""Where a workload goes, and that no device ever promises more than it has."""

from __future__ import annotations

import dataclasses
import threading

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interchain_site.core.errors import DomainError
from interchain_site.testing.devices import CAPACITY, GIGABYTE, make_device, make_workload
from nodes.agent.protocol import Action, Check, Image, Observed, Profile, Runtime
from nodes.agent.sandbox import layer_allowance
from nodes.errors import Invalid, NoDevice
from nodes.models import Device, Lease
from nodes.services import checkups, leases, placement, reservations
from nodes.states import DeviceState

SMALL = dataclasses.replace(CAPACITY, memory_bytes=GIGABYTE)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memory_bytes": 9 * GIGABYTE}, "memory"),
        ({"cpu_millis": 5000}, "processor"),
        ({"disk_bytes": 101 * GIGABYTE}, "disk"),
        ({"memory_bytes": 9 * GIGABYTE, "cpu_millis": 5000}, "memory .* and processor"),
    ],
)
def test_no_device_says_what_is_lacking(box, changes, words):
    workload = make_workload(**changes)
    with pytest.raises(NoDevice, match=words):
        placement.open_lease(workload=workload, by=None)
    assert placement.can_place(workload=workload) != ""
    assert not Lease.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "x"},
        {"name": "not.a.label"},
        {"name": "-x"},
        {"name": "X"},
        {"name": "a" * 64},
        {"name": "x\n"},
        {"port": 0},
        {"port": 65536},
        {"memory_bytes": 0},
        {"cpu_millis": -1},
        {"disk_bytes": -1},
        {"memory_bytes": 2**63},
        {"image": Image()},
    ],
)
def test_what_cannot_be_a_workload_is_refused(box, changes):
    with pytest.raises(Invalid):
        placement.open_lease(workload=make_workload(**changes), by=None)


def test_no_device_is_online(db):
    assert "No device is online" in placement.can_place(workload=make_workload())


def test_a_sandbox_the_device_does_not_offer(cast):
    make_device(cast.owner, capacity=dataclasses.replace(CAPACITY, profiles=("restricted",)))
    assert "baseline sandbox" in placement.can_place(workload=make_workload(profile=Profile.BASELINE))


def test_most_room_wins_but_a_warm_image_beats_it(cast):
    small = make_device(cast.owner, "Small", capacity=SMALL)
    workload = make_workload()
    first = placement.open_lease(workload=workload, by=None)
    assert first.device_id == small.device.pk
    big = make_device(cast.owner, "Big")
    other_image = make_workload("other", image=Image(reference="x@sha256:" + "b" * 64))
    assert placement.open_lease(workload=other_image, by=None).device_id == big.device.pk
    same_image = make_workload("same", image=workload.image)
    assert placement.open_lease(workload=same_image, by=None).device_id == small.device.pk


def test_data_decides_and_is_never_started_without(cast, box):
    workload = make_workload(volume_path="/data")
    lease = placement.open_lease(workload=workload, by=None)
    box.runs(lease)
    leases.close_lease(lease_id=lease.pk, by=None)
    box.says(lease, Observed.STOPPED)
    make_device(cast.owner, "Bigger", capacity=dataclasses.replace(CAPACITY, memory_bytes=64 * GIGABYTE))
    Device.objects.filter(pk=box.device.pk).update(state=DeviceState.OFFLINE)
    with pytest.raises(NoDevice, match="keeps this data is offline"):
        placement.open_lease(workload=workload, by=None)
    Device.objects.filter(pk=box.device.pk).update(state=DeviceState.ONLINE)
    assert placement.open_lease(workload=workload, by=None).device_id == box.device.pk


def test_a_stopped_workload_keeps_its_disk_and_frees_the_rest(box):
    lease = placement.open_lease(workload=make_workload(volume_path="/data"), by=None)
    leases.close_lease(lease_id=lease.pk, by=None)
    box.says(lease, Observed.STOPPED)
    device = Device.objects.get()
    assert (device.reserved_memory_bytes, device.reserved_cpu_millis) == (0, 0)
    assert device.reserved_disk_bytes == lease.disk_bytes
    leases.wipe_lease(lease_id=lease.pk, by=None)
    box.wipes(lease)
    device.refresh_from_db()
    assert device.reserved_disk_bytes == 0


@pytest.mark.parametrize(
    ("changes", "beside"),
    [({}, 0), ({"volume_path": "/data"}, GIGABYTE // 4), ({"volume_path": "/data", "profile": Profile.RESTRICTED}, 0)],
)
def test_what_an_app_may_write_beside_its_volume_is_promised_with_it(cast, changes, beside):
    workload = make_workload(**changes)
    small = dataclasses.replace(CAPACITY, disk_bytes=GIGABYTE + beside - 1)
    device = make_device(cast.owner, capacity=small).device
    with pytest.raises(NoDevice, match="enough disk"):
        placement.open_lease(workload=workload, by=None)
    Device.objects.filter(pk=device.pk).update(disk_bytes=GIGABYTE + beside)
    placement.open_lease(workload=workload, by=None)
    device.refresh_from_db()
    assert device.reserved_disk_bytes == reservations.held_by(device).disk_bytes == GIGABYTE + beside
    assert beside == layer_allowance(workload) * bool(workload.volume_path), "what the agent lets it write"


def test_what_was_promised_before_is_counted_anew_with_the_devices_next_change(cast, box):
    lease = placement.open_lease(workload=make_workload(volume_path="/data"), by=None)
    Device.objects.update(reserved_disk_bytes=lease.disk_bytes)  # as a portal counted that knew of volumes only
    other = placement.open_lease(workload=make_workload("other"), by=None)
    leases.close_lease(lease_id=other.pk, by=None)
    box.says(other, Observed.STOPPED)
    assert Device.objects.get().reserved_disk_bytes == lease.disk_bytes + lease.disk_bytes // 4


def test_a_replacement_needs_room_only_for_the_larger_of_both(cast):
    box = make_device(cast.owner, capacity=SMALL)
    workload = make_workload(memory_bytes=GIGABYTE)
    first = placement.open_lease(workload=workload, by=None)
    box.runs(first)
    too_much = dataclasses.replace(workload, memory_bytes=2 * GIGABYTE)
    with pytest.raises(NoDevice):
        placement.replace_workload(lease_id=first.pk, workload=too_much, by=None)
    first.refresh_from_db()
    assert (first.state, first.action) == ("running", "run")  # the old one goes on
    second = placement.replace_workload(lease_id=first.pk, workload=workload, by=None)
    first.refresh_from_db()
    assert (first.action, second.action) == (Action.STOP.value, Action.RUN.value)
    assert Device.objects.get().reserved_memory_bytes == GIGABYTE


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["open", "close", "stopped", "replace", "wipe"]), st.integers(0, 3)), max_size=30
    )
)
def test_promises_always_match_the_leases(cast, steps):
    with transaction.atomic():
        box = make_device(cast.owner, capacity=SMALL)
        workloads = [
            make_workload(f"app{n}", memory_bytes=(n + 1) * GIGABYTE // 4, volume_path="/d" if n % 2 else "")
            for n in range(4)
        ]
        for verb, number in steps:
            workload = workloads[number]
            lease = Lease.objects.filter(workload_id=workload.id, is_newest=True).first()
            try:
                match verb:
                    case "open":
                        placement.open_lease(workload=workload, by=None)
                    case "close" if lease:
                        leases.close_lease(lease_id=lease.pk, by=None)
                    case "stopped":
                        for old in Lease.objects.filter(workload_id=workload.id, action="stop"):
                            box.says(old, Observed.STOPPED)
                    case "replace" if lease and lease.action == "run":
                        placement.replace_workload(lease_id=lease.pk, workload=workload, by=None)
                    case "wipe" if lease:
                        leases.wipe_lease(lease_id=lease.pk, by=None)
                        for old in Lease.objects.filter(workload_id=workload.id, action="wipe").exclude(state="wiped"):
                            box.wipes(old)
            except DomainError:
                pass
            device = Device.objects.get(pk=box.device.pk)
            runs = {
                w.id
                for w in workloads
                for _ in Lease.objects.filter(workload_id=w.id).exclude(state__in=["stopped", "wiped"])
            }
            assert device.reserved_memory_bytes == sum(w.memory_bytes for w in workloads if w.id in runs) <= GIGABYTE
        transaction.set_rollback(True)


def test_the_database_itself_refuses_to_over_commit(box):
    with pytest.raises(IntegrityError), transaction.atomic():
        Device.objects.update(reserved_memory_bytes=CAPACITY.memory_bytes + 1)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="Row locks between processes need PostgreSQL.")
def test_many_at_once_never_over_commit_and_never_leave_room_unused(cast):
    for name in ("One", "Two"):
        make_device(cast.owner, name, capacity=SMALL)
    outcomes: list[str] = []
    start = threading.Barrier(12)

    def place(number: int) -> None:
        try:
            start.wait()
            placement.open_lease(workload=make_workload(f"app{number}", memory_bytes=GIGABYTE // 4), by=None)
            outcomes.append("placed")
        except NoDevice:
            outcomes.append("no room")
        except Exception as error:
            outcomes.append(repr(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=place, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["no room"] * 4 + ["placed"] * 8
    assert {device.reserved_memory_bytes for device in Device.objects.all()} == {GIGABYTE}


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="Row locks between processes need PostgreSQL.")
def test_one_workload_opened_by_many_at_once_runs_once(cast):
    make_device(cast.owner, "One")
    make_device(cast.owner, "Two")
    workload, outcomes = make_workload(), []
    start = threading.Barrier(6)

    def place() -> None:
        try:
            start.wait()
            placement.open_lease(workload=workload, by=None)
            outcomes.append("placed")
        except DomainError as error:
            outcomes.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=place) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("placed") == 1
    assert Lease.objects.count() == 1


WITH_GVISOR = dataclasses.replace(CAPACITY, runtimes=("runc", "gvisor"))


def test_what_needs_gvisor_goes_only_where_it_works(cast):
    make_device(cast.owner, "Plain")
    needs = make_workload(runtime=Runtime.GVISOR)
    assert "gVisor" in placement.can_place(workload=needs)
    safe = make_device(cast.owner, "Safe", capacity=dataclasses.replace(SMALL, runtimes=("runc", "gvisor")))
    lease = placement.open_lease(workload=needs, by=None)
    assert lease.device_id == safe.device.pk
    assert lease.workload_public["runtime"] == "gvisor"


def test_what_prefers_gvisor_takes_it_where_it_is_and_does_without_where_it_is_not(cast):
    plain = make_device(cast.owner, "Plain")
    prefers = make_workload(runtime=Runtime.GVISOR, runtime_optional=True)
    assert placement.open_lease(workload=prefers, by=None).device_id == plain.device.pk
    safe = make_device(cast.owner, "Safe", capacity=dataclasses.replace(SMALL, runtimes=("runc", "gvisor")))
    other = make_workload("other", runtime=Runtime.GVISOR, runtime_optional=True)
    assert placement.open_lease(workload=other, by=None).device_id == safe.device.pk


def test_an_app_keeps_its_data_home_only_while_gvisor_works_there(cast):
    home = make_device(cast.owner, "Home", capacity=WITH_GVISOR)
    workload = make_workload(volume_path="/data", runtime=Runtime.GVISOR)
    lease = placement.open_lease(workload=workload, by=None)
    home.runs(lease)
    leases.close_lease(lease_id=lease.pk, by=None)
    home.says(lease, Observed.STOPPED)
    checkups.take(device=home.device, checks=[Check("gvisor", False, "It does not work any more.", needed=False)])
    with pytest.raises(NoDevice):
        placement.open_lease(workload=workload, by=None)
    checkups.take(device=home.device, checks=[Check("gvisor", True, "It works.", needed=False)])
    assert placement.open_lease(workload=workload, by=None).device_id == home.device.pk
