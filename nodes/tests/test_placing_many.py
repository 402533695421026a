"""Many slots that wait are placed at once: each gets the device it would get by itself, none is over-committed, and no more is asked for many."""

from __future__ import annotations

import dataclasses
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interchain_site.testing.devices import CAPACITY, GIGABYTE, make_device, make_workload
from nodes.agent.protocol import Image
from nodes.models import Device, Failover, Lease, ReplicaSet
from nodes.scoring import Offer, network_of, rank
from nodes.services import election, leases, placement, replica_sets, reservations
from nodes.services.candidates import image_key
from nodes.states import LeaseState


def want(name: str, *, replicas: int = 1, region: str = "", **changes: object) -> ReplicaSet:
    """Want a workload that has no device yet, so that the sweep finds it due."""
    wanted = replica_sets.want(None, make_workload(name, **changes), replicas=replicas, standby=False, region=region)
    replica_sets.note_due(wanted, timezone.now(), tries=0)
    return wanted


# --- the choice is the plain ranking's ------------------------------------------------------------------------------------
IMAGES = [Image(reference=f"x@sha256:{letter * 64}") for letter in "abc"]
BOXES = st.lists(
    st.fixed_dictionaries(
        {
            "owner": st.integers(0, 2),
            "host": st.sampled_from(["10.0.1.1", "10.0.1.2", "10.0.2.1", "box.example"]),
            "memory": st.integers(1, 6),
            "cores": st.integers(1, 4),
            "reliability": st.integers(0, 4).map(lambda n: n * 250),
            "ran": st.none() | st.integers(0, 2),
        }
    ),
    min_size=1,
    max_size=5,
)
APPS = st.lists(
    st.fixed_dictionaries(
        {
            "replicas": st.integers(1, 3),
            "memory": st.integers(1, 3),
            "cores": st.integers(1, 2),
            "image": st.integers(0, 2),
            "region": st.sampled_from(["", "us"]),
        }
    ),
    min_size=1,
    max_size=5,
)


def plainly(sets: list[ReplicaSet]) -> dict[tuple[UUID, int], UUID | None]:
    """Where each slot goes, ranking all devices for each, one after the other."""
    devices = {device.pk: device for device in Device.objects.all()}
    free = {pk: reservations.free_room(device) for pk, device in devices.items()}
    ran = set(Lease.objects.values_list("image_key", "device_id"))
    most, found = {}, {}
    for wanted in sets:
        workload, others = wanted.workload, []
        need = reservations.need_of(workload)
        key = (need, wanted.region)
        most.setdefault(key, max((room.memory_bytes for room in free.values() if room.fits(need)), default=0))
        for slot in range(wanted.replicas):
            offers = [
                Offer(
                    device_id=pk,
                    owner_id=device.owner_id,
                    network=network_of(device.endpoint_host),
                    region=device.region,
                    has_image=(image_key(workload), pk) in ran,
                    free_memory_bytes=free[pk].memory_bytes,
                    reliability=device.reliability,
                )
                for pk, device in devices.items()
                if free[pk].fits(need) and pk not in {other.device_id for other in others}
            ]
            ranked = rank(offers, beside=others, region=wanted.region, most=most[key])
            if not ranked:
                break
            others.append(ranked[0])
            free[ranked[0].device_id] = free[ranked[0].device_id] - need
            found[wanted.pk, slot] = ranked[0].device_id
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(boxes=BOXES, apps=APPS)
def test_each_slot_gets_the_device_that_the_plain_ranking_gives_it(cast, boxes, apps):
    owners = [cast.owner, cast.stranger, cast.buyer]
    with transaction.atomic():
        for number, box in enumerate(boxes):
            capacity = dataclasses.replace(
                CAPACITY, memory_bytes=box["memory"] * GIGABYTE, cpu_millis=box["cores"] * 1000
            )
            made = make_device(owners[box["owner"]], f"Box {number}", host=box["host"], capacity=capacity)
            Device.objects.filter(pk=made.device.pk).update(reliability=box["reliability"])
            if box["ran"] is not None:
                Lease.objects.create(
                    **_over(made.device, f"old{number}", image_key(make_workload(image=IMAGES[box["ran"]])))
                )
        for number, app in enumerate(apps):
            want(
                f"app{number}",
                replicas=app["replicas"],
                region=app["region"],
                memory_bytes=app["memory"] * GIGABYTE,
                cpu_millis=app["cores"] * 1000,
                image=IMAGES[app["image"]],
            )
        expected = plainly(list(ReplicaSet.objects.order_by("pk")))
        assert election.sweep() == len(expected)
        placed = {(one.workload_id, one.slot): one.device_id for one in Lease.objects.filter(state="offered")}
        assert placed == expected
        for device in Device.objects.all():
            held = reservations.held_by(device)
            assert (held.memory_bytes, held.cpu_millis) == (device.reserved_memory_bytes, device.reserved_cpu_millis)
            assert held.memory_bytes <= device.memory_bytes
        transaction.set_rollback(True)


def _over(device: Device, name: str, image: str) -> dict[str, object]:
    """The columns of a lease that is over: all that is left is that its image was there."""
    workload, now = make_workload(name), timezone.now()
    public, environment = replica_sets.stored(workload)
    return {
        "workload_id": UUID(workload.id),
        "generation": 1,
        "device": device,
        "name": name,
        "state": LeaseState.WIPED,
        "action": "wipe",
        "workload_public": public,
        "environment_encrypted": environment,
        "image_key": image,
        "cpu_millis": 1,
        "memory_bytes": 1,
        "disk_bytes": 0,
        "has_volume": False,
        "opened_at": now,
        "state_changed_at": now,
        "closed_at": now,
    }


# --- how it is done -------------------------------------------------------------------------------------------------------
def queries_of(count: int, captured, prefix: str) -> int:
    for number in range(count):
        want(f"{prefix}{number}", memory_bytes=GIGABYTE // 100, cpu_millis=1, disk_bytes=1)
    with captured() as found:
        assert election.sweep() == count
    return len(found)


def test_as_many_queries_for_twenty_slots_as_for_two_and_however_many_run(cast, django_assert_max_num_queries):
    for number in range(3):
        make_device(cast.owner, f"Box {number}")

    def captured():
        return django_assert_max_num_queries(30)

    few = queries_of(2, captured, "few")
    many = queries_of(20, captured, "many")
    again = queries_of(2, captured, "again")
    assert few == many == again


def test_a_device_with_another_sandbox_does_not_hide_those_that_come_after_it(cast, monkeypatch):
    """The devices with most room are looked at first, and then the others, page by page."""
    monkeypatch.setattr("nodes.services.candidates.PAGE", 2)
    for number in range(9):
        make_device(cast.owner, f"Box {number}", capacity=dataclasses.replace(CAPACITY, profiles=("restricted",)))
    small = make_device(cast.owner, "Small", capacity=dataclasses.replace(CAPACITY, memory_bytes=GIGABYTE))
    assert placement.open_lease(workload=make_workload(), by=None).device_id == small.device.pk


def test_the_region_whose_prices_are_paid_wins_over_a_warm_image_and_room(cast):
    abroad = make_device(cast.owner, "Abroad", capacity=dataclasses.replace(CAPACITY, memory_bytes=64 * GIGABYTE))
    image = make_workload().image
    assert placement.open_lease(workload=make_workload("first", image=image), by=None).device_id == abroad.device.pk
    Device.objects.filter(pk=abroad.device.pk).update(region="eu")
    home = make_device(cast.owner, "Home")
    second = placement.open_lease(workload=make_workload("second", image=image), region="us", by=None)
    assert second.device_id == home.device.pk
    anywhere = placement.open_lease(workload=make_workload("third", image=image), by=None)
    assert anywhere.device_id == abroad.device.pk


def test_where_devices_are_never_as_they_were_seen_they_are_locked_before_one_is_chosen(cast, monkeypatch):
    make_device(cast.owner)
    looks = []
    monkeypatch.setattr(placement.fleet, "still_holds", lambda choice, candidate: looks.append(choice) or False)
    lease = placement.open_lease(workload=make_workload(), by=None)
    assert len(looks) == placement.ROUNDS_AS_SEEN
    assert Device.objects.get().reserved_memory_bytes == lease.memory_bytes


def test_one_that_cannot_be_looked_at_keeps_none_of_the_others_waiting(cast, monkeypatch):
    make_device(cast.owner)
    sets = [want(f"app{number}") for number in range(4)]
    look_at = election._look_at

    def fails_once(wanted, *rest):
        if wanted.pk == sets[2].pk:
            raise RuntimeError("a fault of ours")
        return look_at(wanted, *rest)

    monkeypatch.setattr(election, "_look_at", fails_once)
    assert election.sweep() == 3
    assert not Lease.objects.filter(workload_id=sets[2].pk).exists()
    assert ReplicaSet.objects.get(pk=sets[2].pk).due_at is not None


def test_what_was_lost_at_once_is_placed_at_once(cast):
    boxes = [make_device(cast.owner, f"Box {number}") for number in range(3)]
    workloads = [make_workload(f"app{number}", memory_bytes=GIGABYTE // 10, cpu_millis=100) for number in range(12)]
    for workload in workloads:
        lease = placement.open_lease(workload=workload, by=None)
        next(box for box in boxes if box.device.pk == lease.device_id).runs(lease)
    gone = boxes[0].device
    lost = list(Lease.objects.filter(device=gone))
    for lease in lost:
        leases.mark_lost(lease.pk)
    Device.objects.filter(pk=gone.pk).update(state="offline")
    assert election.sweep() == len(lost) > 0
    assert set(Lease.objects.filter(is_newest=True).values_list("device_id", flat=True)) == {
        box.device.pk for box in boxes[1:]
    }
    for lease in lost:
        lease.refresh_from_db()
        assert (lease.action, lease.is_newest, lease.fenced_at is not None) == ("stop", False, True)
        failover = Failover.objects.get(lost_lease=lease)
        assert failover.new_lease == Lease.objects.get(workload_id=lease.workload_id, is_newest=True)
