"""The portal under test: PostgreSQL that flushes to disk, Valkey, and one web process as production runs it; filled with devices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.fleet.fleet import device_id, key_of, lease_id  # noqa: E402  (after the path is set)
from interchain_site.testing.servers import wait_for_port  # noqa: E402

DURABLE = ("listen_addresses=127.0.0.1", "max_connections=200", "shared_buffers=256MB")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Portal:
    """The running web process and the database's processes."""

    url: str
    link_key: str
    command: list[str]
    log: Path
    database: Path
    web: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start the web process and wait until it accepts."""
        with self.log.open("ab") as out:
            self.web = subprocess.Popen(self.command, stdout=out, stderr=out)
        wait_for_port(int(self.url.rpartition(":")[2]), 120)

    def end(self, number: int = signal.SIGTERM) -> None:
        """End the web process and wait until it is gone."""
        self.web.send_signal(number)
        self.web.wait(30)

    def web_memory(self) -> int:
        """Return the resident bytes of the web process."""
        status = Path(f"/proc/{self.web.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    def web_cpu(self) -> float:
        """Return the CPU seconds the web process has used."""
        return _cpu(self.web.pid)

    def database_cpu(self) -> float:
        """Return the CPU seconds of PostgreSQL, sessions that ended included."""
        main = int((self.database / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        return sum(_cpu(int(pid)) for pid in children) + _cpu(main, ended=True)

    def web_threads(self) -> int:
        return len(list(Path(f"/proc/{self.web.pid}/task").iterdir()))


def _cpu(pid: int, *, ended: bool = False) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(ticks) for ticks in fields[11 : 15 if ended else 13]) / TICKS


@contextmanager
def portal(*, devices: int, with_leases: int = 0, leases: int = 25, web: list[str] | None = None) -> Iterator[Portal]:
    """Run it until the block ends.

    Args:
        devices: how many are enrolled, online.
        with_leases: how many of them run `leases` each.
        web: more options for uvicorn.
    """
    from interchain_site.local import postgres
    from interchain_site.testing.servers import free_port, valkey

    port = free_port()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own
        url = stack.enter_context(postgres.cluster(folder / "postgres", settings=DURABLE))
        environment = {
            "DATABASE_URL": url,
            "REDIS_URL": stack.enter_context(valkey()),
            "PORTAL_URL": f"http://127.0.0.1:{port}",
            "DATA_DIR": str(folder),
            "DEBUG": "0",
            "SECRET_KEY": "bench-" * 10,
            "INTERCHAIN_ENV_FILE": "/dev/null",
            "FIELD_ENCRYPTION_KEYS": "dGVzdHMtb25seS1rZXktdGVzdHMtb25seS1rZXktISE=",
            "LOG_LEVEL": "WARNING",
            "DJANGO_SETTINGS_MODULE": "interchain_site.settings",
        }
        os.environ.update(environment)
        # In a process of its own: Django keeps the database it was set up with.
        filling = [sys.executable, __file__, str(devices), str(with_leases), str(leases)]
        link_key = subprocess.run(filling, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
        command = [sys.executable, "-m", "uvicorn", "interchain_site.asgi:application", "--port", str(port)]
        command += [
            "--proxy-headers",
            "--no-access-log",
            "--ws-ping-interval",
            "5",
            "--ws-ping-timeout",
            "10",
            "--ws-max-size",
            "16384",
            "--ws-per-message-deflate",
            "false",
            "--timeout-graceful-shutdown",
            "3",
            *(web or []),
        ]
        at = Portal(environment["PORTAL_URL"], link_key, command, folder / "web.log", folder / "postgres")
        at.start()
        try:
            yield at
        finally:
            at.end()
            sys.stderr.write(at.log.read_text()[-3000:])


def fill(devices: int, with_leases: int, leases: int) -> None:
    import django

    django.setup()
    from django.core.management import call_command
    from django.utils import timezone

    from interchain_site.core.models import User
    from nodes.agent.protocol import Image, Workload
    from nodes.models import Device, DeviceKey, Lease
    from nodes.services import link_keys
    from nodes.services.replica_sets import stored

    call_command("migrate", verbosity=0)
    now = timezone.now()
    owner = User.objects.create(email="owner@example.com")
    capacity = {
        "cpu_millis": 64_000,
        "memory_bytes": 2**38,
        "disk_bytes": 2**42,
        "profiles": ["restricted", "baseline"],
    }
    amounts = {name: capacity[name] for name in ("cpu_millis", "memory_bytes", "disk_bytes")}
    rows = [
        Device(
            id=device_id(number), owner=owner, name=f"Device {number}", region="us", state="online",
            public_key=key_of(number).public_x, endpoint_host="127.0.0.1", capacity=capacity,
            benchmark={"instructions_per_second": 2_000_000_000}, **amounts, created_at=now, enrolled_at=now, last_seen_at=now,
        )
        for number in range(devices)
    ]  # fmt: skip
    Device.objects.bulk_create(rows, batch_size=1000)
    keys = [DeviceKey(device_id=row.pk, public_key=row.public_key, began_at=now) for row in rows]
    DeviceKey.objects.bulk_create(keys, batch_size=1000)
    app = Workload(str(device_id(0)), "app", Image(f"registry.example/app@sha256:{'a' * 64}"), 8080, 2**28, 100, 0)
    public, environment = stored(app)
    Lease.objects.bulk_create(
        [
            Lease(
                id=lease_id(number, place), workload_id=lease_id(number, place), generation=1, device_id=device_id(number),
                name=f"app-{number}-{place}", state="running", workload_public=public, environment_encrypted=environment,
                image_key="x", cpu_millis=1000, memory_bytes=2**30, disk_bytes=2**30, has_volume=True,
                opened_at=now - timedelta(days=30), state_changed_at=now, running_at=now, host_port=20_000 + place,
            )
            for number in range(with_leases)
            for place in range(leases)
        ],
        batch_size=1000,
    )  # fmt: skip
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    print(link_keys.in_force().public_key)


if __name__ == "__main__":
    fill(*(int(word) for word in sys.argv[1:]))
