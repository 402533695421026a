"""A device without a computer, for tests: it has a real key, signs as an agent signs, and says what the test wants."""

from __future__ import annotations

import dataclasses
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from joserfc import jws
from joserfc.jwk import OKPKey

from interchain_site.core.models import User
from nodes.agent import protocol
from nodes.models import Device, Lease
from nodes.services import enrolment, leases, metering, receipts

GIGABYTE = 10**9
CAPACITY = protocol.Capacity(cpu_millis=4000, memory_bytes=8 * GIGABYTE, disk_bytes=100 * GIGABYTE)
BENCHMARK = protocol.Benchmark(instructions_per_second=2_000_000_000)


@dataclasses.dataclass
class FakeDevice:
    """What an agent would do, through the services (`says…`) or as raw signed text for the API."""

    device: Device
    key: OKPKey

    @property
    def id(self) -> str:
        return str(self.device.pk)

    def sign(self, payload: bytes) -> str:
        return jws.serialize_compact({"alg": "Ed25519"}, payload, self.key, algorithms=["Ed25519"])

    def jwt(self, **claims: Any) -> str:
        """Return a good token for one request; pass claims to make it a bad one."""
        now = int(time.time())
        good = {"iss": self.id, "aud": settings.PORTAL_URL, "iat": now, "exp": now + 60, "jti": uuid.uuid4().hex}
        return self.sign(json.dumps(good | claims).encode())

    def says(self, lease: Lease, observed: protocol.Observed, host_port: int = 0, **more: Any) -> None:
        """Report one lease; the lease given is refreshed."""
        status = protocol.Status(str(lease.pk), lease.generation, observed, host_port=host_port, **more)
        leases.handle_report(device=self.device, report=protocol.Report(statuses=(status,)))
        lease.refresh_from_db()

    def runs(self, lease: Lease, host_port: int = 40_000) -> None:
        """Report it prepared, then running."""
        self.says(lease, protocol.Observed.PREPARING)
        self.says(lease, protocol.Observed.RUNNING, host_port=host_port)

    def reading(self, lease: Lease, meter: protocol.Meter, total: int, at: datetime | None = None) -> protocol.Reading:
        method = {
            protocol.Meter.TRANSFER: protocol.Method.INTERFACE,
            protocol.Meter.STORAGE: protocol.Method.VOLUME,
            protocol.Meter.COMPUTE: protocol.Method.CALIBRATED,
            protocol.Meter.UPTIME: protocol.Method.CLOCK,
            protocol.Meter.ACTIVE_USER: protocol.Method.GATEWAY,
        }[meter]
        moment = (at or datetime.now(UTC)).isoformat()
        return protocol.Reading(str(lease.pk), lease.generation, meter, total, moment, method)

    def batch(self, *readings: protocol.Reading, id: str = "", **changes: Any) -> str:
        """Return a signed batch of readings."""
        message = protocol.ReadingBatch(id or str(uuid.uuid4()), self.id, datetime.now(UTC).isoformat(), readings)
        return self.sign(protocol.to_json(dataclasses.replace(message, **changes)))

    def measures(self, lease: Lease, **totals: int) -> protocol.Accepted:
        """Send one batch of cumulative totals by meter name, e.g. `uptime=60_000` (base units)."""
        readings = [self.reading(lease, protocol.Meter(name), total) for name, total in totals.items()]
        return metering.ingest(device=self.device, jws=self.batch(*readings))

    def receipt(self, lease: Lease, **changes: Any) -> str:
        """Return a signed wipe receipt."""
        now = datetime.now(UTC).isoformat()
        message = protocol.WipeReceipt(str(lease.pk), lease.generation, str(lease.workload_id), self.id, now, 0)
        return self.sign(protocol.to_json(dataclasses.replace(message, **changes)))

    def wipes(self, lease: Lease) -> None:
        """Send the wipe receipt."""
        receipts.take(device=self.device, jws=self.receipt(lease))
        lease.refresh_from_db()


def make_device(
    owner: User, name: str = "Box", *, host: str = "127.0.0.1", capacity: protocol.Capacity = CAPACITY
) -> FakeDevice:
    """Enrol a device of this owner, online."""
    _, token = enrolment.create_device(owner=owner, name=name, region="us")
    key = OKPKey.generate_key("Ed25519")
    message = protocol.Enrolment(token, str(key.as_dict(private=False)["x"]), "test", capacity, BENCHMARK, host)
    return FakeDevice(enrolment.enrol(enrolment=message, seen_address="127.0.0.1"), key)


def make_workload(name: str = "blog", **changes: Any) -> protocol.Workload:
    """Return a small workload with an id of its own."""
    workload = protocol.Workload(
        id=str(uuid.uuid4()),
        name=name,
        image=protocol.Image(reference=f"registry.example/{name}@sha256:{'a' * 64}"),
        port=8080,
        memory_bytes=GIGABYTE // 2,
        cpu_millis=500,
        disk_bytes=GIGABYTE,
        environment={"COLOUR": "red"},
    )
    return dataclasses.replace(workload, **changes)
