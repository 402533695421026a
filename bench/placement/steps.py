"""What the processes of the benchmark do, each with the site's own code on the benchmark's database."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
import uuid
from collections.abc import Callable

from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import Sum
from django.utils import timezone

from interchain_site.core.models import User
from interchain_site.testing.devices import make_workload
from nodes.models import Device, Lease, ReplicaSet
from nodes.services import election, placement, replica_sets, reservations

GIGABYTE = 10**9
PROMISED = {
    "cpu_millis": 320_000,
    "memory_bytes": 640 * GIGABYTE,
    "disk_bytes": 4000 * GIGABYTE,
}


def fill(asked: argparse.Namespace) -> None:
    """Large devices of 200 owners in 250 networks, online, and so many apps that run, spread evenly."""
    call_command("migrate", verbosity=0)
    now = timezone.now()
    if not Device.objects.exists():
        people = User.objects.bulk_create([User(email=f"owner{n}@example.com") for n in range(200)])
        Device.objects.bulk_create(
            Device(
                owner=people[n % 200],
                name=f"Box {n}",
                region="us",
                state="online",
                capacity={**PROMISED, "profiles": ["restricted", "baseline"]},
                public_key=f"key-{n}",
                endpoint_host=f"10.{n % 250}.0.{n // 250 + 1}",
                created_at=now,
                enrolled_at=now,
                reliability=500 + n % 500,
                **PROMISED,
            )
            for n in range(asked.devices)
        )
    devices = list(Device.objects.order_by("name"))
    made = [_running(n, devices[n % len(devices)]) for n in range(ReplicaSet.objects.count(), asked.running)]
    ReplicaSet.objects.bulk_create([wanted for wanted, _ in made], batch_size=1_000)
    Lease.objects.bulk_create([lease for _, lease in made], batch_size=1_000)
    _count_again(devices)


def _running(number: int, device: Device) -> tuple[ReplicaSet, Lease]:
    workload, now = make_workload(f"run{number}"), timezone.now()
    public, environment = replica_sets.stored(workload)
    stored = {"name": workload.name, "workload_public": public, "environment_encrypted": environment}
    wanted = ReplicaSet(pk=uuid.UUID(workload.id), generation=1, has_volume=False, **stored)
    lease = Lease(
        workload_id=wanted.pk,
        generation=1,
        device=device,
        state="running",
        image_key=workload.image.reference,
        cpu_millis=workload.cpu_millis,
        memory_bytes=workload.memory_bytes,
        disk_bytes=workload.disk_bytes,
        has_volume=False,
        host_port=20_000 + number % 40_000,
        opened_at=now,
        state_changed_at=now,
        running_at=now,
        **stored,
    )
    return wanted, lease


def want(asked: argparse.Namespace) -> None:
    """So many workloads are wanted and have no device: what the sweep finds due."""
    now, sets = timezone.now(), []
    for number in range(asked.waiting):
        workload = make_workload(f"wait{number}")
        public, environment = replica_sets.stored(workload)
        sets.append(
            ReplicaSet(
                pk=uuid.UUID(workload.id),
                name=workload.name,
                workload_public=public,
                environment_encrypted=environment,
                has_volume=False,
                due_at=now,
            )
        )
    ReplicaSet.objects.bulk_create(sets, batch_size=1_000)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def sweep(asked: argparse.Namespace) -> None:
    """Place what waits until nothing does, beside the other processes."""
    list(Device.objects.all()[:1])
    _ready()
    placed, queries, began = 0, 0, time.time()

    def count(execute: Callable[..., object], *rest: object) -> object:
        nonlocal queries
        queries += 1
        return execute(*rest)

    with connection.execute_wrapper(count):
        while ReplicaSet.objects.filter(due_at__lte=timezone.now()).exists():
            placed += election.sweep()
    print(json.dumps({"placed": placed, "queries": queries, "began": began, "ended": time.time()}))


def single(asked: argparse.Namespace) -> None:
    """Place one at a time, as a click does, until the time is over."""

    def once(number: int) -> None:
        placement.open_lease(workload=make_workload(f"p{os.getpid()}-{number}"), by=None)

    for warm in range(20):
        once(-1 - warm)
    _ready()
    took, began = [], time.time()
    while time.time() - began < asked.seconds:
        before = time.perf_counter()
        once(len(took))
        took.append((time.perf_counter() - before) * 1000)
    median = sorted(took)[len(took) // 2]
    print(json.dumps({"placed": len(took), "median": median, "began": began, "ended": time.time()}))


def check(asked: argparse.Namespace) -> None:
    """Each workload has one lease, and what each device promised is what its leases hold."""
    held = dict(Device.objects.annotate(held=Sum("leases__memory_bytes")).values_list("pk", "held"))
    promised = dict(Device.objects.values_list("pk", "reserved_memory_bytes"))
    if any((held[pk] or 0) != amount for pk, amount in promised.items()):
        raise SystemExit("What devices promised is not what their leases hold.")
    if Lease.objects.count() != ReplicaSet.objects.count():
        raise SystemExit("Some workload has no lease, or two.")


def clear(asked: argparse.Namespace) -> None:
    """Take away what was placed, so that what runs is as before."""
    with connection.cursor() as cursor:
        for model in (Lease, ReplicaSet):
            cursor.execute(f"DELETE FROM {model._meta.db_table} WHERE name NOT LIKE 'run%%'")
    _count_again(list(Device.objects.all()))


def _count_again(devices: list[Device]) -> None:
    with transaction.atomic():
        reservations.write({device.pk: reservations.held_by(device) for device in devices})


def _ready() -> None:
    gc.collect()
    gc.freeze()  # as a worker's processes do (interchain_site/celery.py)
    print("ready", flush=True)
    sys.stdin.readline()


def prepare(asked: argparse.Namespace) -> None:
    fill(asked)
    want(asked)


def tidy(asked: argparse.Namespace) -> None:
    check(asked)
    clear(asked)


STEPS = {step.__name__: step for step in (prepare, sweep, single, tidy)}
