"""Placements a second on 1,000 devices, with 0, 1,000 and 10,000 apps running, on a real PostgreSQL and a real Valkey.

`python bench/placement/run.py [--devices N] [--processes N] [--seconds N] [--write]`. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))
RUNNING = (0, 1_000, 10_000)
GIGABYTE = 10**9


def main() -> None:
    asked = _arguments()
    if asked.step:
        import django

        django.setup()
        {"fill": fill, "place": place}[asked.step](asked)
        return
    from interchain_site.local import postgres
    from interchain_site.testing.servers import valkey

    rows = []
    with tempfile.TemporaryDirectory() as folder, valkey() as redis_url:
        Path(folder).chmod(0o755)  # the server runs as another user when this is root
        with postgres.cluster(Path(folder) / "pg") as url:
            environment = _environment(Path(folder), url, redis_url)
            for running in RUNNING:
                _child(["--step", "fill", "--running", str(running)], asked, environment)
                rows.append((running, _measure(asked, environment)))
    text = _table(rows, asked)
    print(text)
    if asked.write:
        (ROOT / "bench" / "results" / "placement.md").write_text(text)


def fill(asked: argparse.Namespace) -> None:
    """Devices of 64 GB and 32 cores of 200 owners in 250 networks, online, and so many apps that run, spread evenly."""
    from django.core.management import call_command
    from django.utils import timezone

    from interchain_site.core.models import User
    from interchain_site.testing.devices import make_workload
    from nodes.models import Device, Lease, ReplicaSet
    from nodes.services import replica_sets, reservations

    call_command("migrate", verbosity=0)
    now = timezone.now()
    if not Device.objects.exists():
        people = User.objects.bulk_create([User(email=f"owner{n}@example.com") for n in range(200)])
        capacity = {
            "cpu_millis": 320_000,
            "memory_bytes": 640 * GIGABYTE,
            "disk_bytes": 4000 * GIGABYTE,
            "profiles": ["restricted", "baseline"],
        }
        Device.objects.bulk_create(
            Device(
                owner=people[n % 200],
                name=f"Box {n}",
                region="us",
                state="online",
                capacity=capacity,
                public_key=f"key-{n}",
                endpoint_host=f"10.{n % 250}.0.{n // 250 + 1}",
                created_at=now,
                enrolled_at=now,
                cpu_millis=320_000,
                memory_bytes=640 * GIGABYTE,
                disk_bytes=4000 * GIGABYTE,
                reliability=500 + n % 500,
            )
            for n in range(asked.devices)
        )
    devices, known = list(Device.objects.order_by("name")), ReplicaSet.objects.count()
    sets, leased = [], []
    for n in range(known, asked.running):
        workload = make_workload(f"run{n}")
        public, environment = replica_sets.stored(workload)
        pk = uuid.UUID(workload.id)
        sets.append(
            ReplicaSet(
                pk=pk,
                name=workload.name,
                generation=1,
                workload_public=public,
                environment_encrypted=environment,
                has_volume=False,
            )
        )
        leased.append(
            Lease(
                workload_id=pk,
                generation=1,
                device=devices[n % len(devices)],
                name=workload.name,
                state="running",
                workload_public=public,
                environment_encrypted=environment,
                image_key=workload.image.reference,
                cpu_millis=workload.cpu_millis,
                memory_bytes=workload.memory_bytes,
                disk_bytes=workload.disk_bytes,
                has_volume=False,
                host_port=20_000 + n // len(devices),
                opened_at=now,
                state_changed_at=now,
                running_at=now,
            )
        )
    ReplicaSet.objects.bulk_create(sets, batch_size=1_000)
    Lease.objects.bulk_create(leased, batch_size=1_000)
    for device in devices:
        reservations.write(device, reservations.leases_on(device))
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def place(asked: argparse.Namespace) -> None:
    """Place until the time is over; prints how many, and the milliseconds each took. What was placed is taken away after."""
    from interchain_site.testing.devices import make_workload
    from nodes.models import Lease, ReplicaSet
    from nodes.services import placement

    def once(number: int) -> None:
        placement.open_lease(workload=make_workload(f"p{os.getpid()}-{number}"), by=None)

    for warm in range(20):
        once(-1 - warm)
    took, began = [], time.perf_counter()
    while time.perf_counter() - began < asked.seconds:
        before = time.perf_counter()
        once(len(took))
        took.append((time.perf_counter() - before) * 1000)
    elapsed = time.perf_counter() - began
    print(json.dumps({"rate": len(took) / elapsed, "median": sorted(took)[len(took) // 2]}))
    mine = Lease.objects.filter(name__startswith=f"p{os.getpid()}-")
    ReplicaSet.objects.filter(name__startswith=f"p{os.getpid()}-").delete()
    mine.delete()


def _measure(asked: argparse.Namespace, environment: dict[str, str]) -> list[dict[str, float]]:
    command = _command(["--step", "place"], asked)
    children = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(asked.processes)
    ]
    found = [json.loads(child.communicate()[0].strip().splitlines()[-1]) for child in children]
    _child(["--step", "fill"], asked, environment)  # what was promised to what is gone is free again
    return found


def _command(more: list[str], asked: argparse.Namespace) -> list[str]:
    given = ["--devices", str(asked.devices), "--seconds", str(asked.seconds)]
    return [sys.executable, str(Path(__file__).resolve()), *more, *given]


def _child(more: list[str], asked: argparse.Namespace, environment: dict[str, str]) -> None:
    subprocess.run(_command(more, asked), env=environment, check=True)


def _environment(folder: Path, url: str, redis_url: str) -> dict[str, str]:
    ours = {
        "DJANGO_SETTINGS_MODULE": "interchain_site.settings",
        "INTERCHAIN_ENV_FILE": "/dev/null",
        "SECRET_KEY": "bench",
        "LOG_LEVEL": "WARNING",
        "FIELD_ENCRYPTION_KEYS": "dGVzdHMtb25seS1rZXktdGVzdHMtb25seS1rZXktISE=",
        "DATA_DIR": str(folder),
        "DATABASE_URL": url,
        "REDIS_URL": redis_url,
        "PYTHONPATH": str(ROOT),
    }
    return {**os.environ, **ours}


def _table(rows: list[tuple[int, list[dict[str, float]]]], asked: argparse.Namespace) -> str:
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    lines = [
        "# Placement: workloads a second",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit}, {os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f},"
        f" Python {platform.python_version()}, {asked.devices:,} devices, {asked.processes} processes at the same time, {asked.seconds} s each.",
        "",
        "| apps that run | placements a second, together | median of one, ms |",
        "|---|---|---|",
    ]
    for running, found in rows:
        median = sum(one["median"] for one in found) / len(found)
        lines.append(f"| {running:,} | {sum(one['rate'] for one in found):,.0f} | {median:.1f} |")
    return "\n".join([*lines, ""])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=1_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--running", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--step", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
