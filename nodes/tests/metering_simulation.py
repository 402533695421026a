"""Computers that lend themselves, simulated: their kernels, clocks, disks and network are made up, everything else is real.

The agent's meters, metering, outbox and courier run as on a device, on files; what they send goes to the portal's own `ingest`.
What a simulated kernel counted is the truth a bill is held against. Longer than 300 lines because a computer, its clocks and its
truth are one thing.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest
import time_machine

from interchain_site.core.errors import DomainError
from interchain_site.testing.devices import FakeDevice
from nodes.agent import files, keys, protocol
from nodes.agent.counters import Raw
from nodes.agent.courier import Courier
from nodes.agent.errors import PortalRefused, PortalUnreachable
from nodes.agent.meter import LONGEST_UNSEEN_MS, NANO, Meters
from nodes.agent.metering import Metering, View
from nodes.agent.outbox import Outbox
from nodes.agent.protocol import Desired, DesiredLease, Meter
from nodes.agent.reconcile import Seen
from nodes.models import Device, Lease, MeterTotal
from nodes.services import device_keys, metering

MOST_BATCHES = 4  # so that merges are as common as they are after days without a portal
WRONG_CLOCK_SECONDS = 30


class Killed(BaseException):
    """The agent's process ends here, as by SIGKILL."""


class Fuse:
    """Ends the process before or after any of its writes to the disk."""

    def __init__(self) -> None:
        self.left: int | None = None

    def step(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Killed

    @contextmanager
    def armed(self, steps: int | None) -> Iterator[None]:
        self.left = steps
        try:
            yield
        finally:
            self.left = None

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Put it around what the agent does to its disk; nothing waits for the disk itself."""

        def around(do: Callable[..., None]) -> Callable[..., None]:
            def steps(*arguments: object, **named: object) -> None:
                self.step()
                do(*arguments, **named)
                self.step()

            return steps

        patch.setattr(files, "write_atomic", around(files.write_atomic))
        patch.setattr(files, "remove", around(files.remove))
        patch.setattr(files.os, "fsync", lambda descriptor: None)


@dataclass
class Kernel:
    """What `Counters` reads: one lease's cgroup and bridge, each known by a number that a new one does not have again."""

    boot: int = 0
    cgroup: int = 0
    nanoseconds: int = 0
    bridge: int = 0
    bytes: int = 0

    def cpu_nanoseconds(self, lease_id: str, pid: int, container_id: str = "") -> Raw:
        return Raw(f"{self.boot}:cgroup:{self.cgroup}", self.nanoseconds)

    def interface_bytes(self, bridge: str) -> Raw:
        return Raw(f"{self.boot}:bridge:{self.bridge}", self.bytes)

    def new_cgroup(self) -> None:
        self.cgroup, self.nanoseconds = self.cgroup + 1, 0

    def new_bridge(self) -> None:
        self.bridge, self.bytes = self.bridge + 1, 0

    def reboot(self) -> None:
        self.__init__(boot=self.boot + 1)  # type: ignore[misc]  # and every number begins again


class Portal:
    """The real ingest, its clock, and everything that was ever sent to it."""

    def __init__(self, box: FakeDevice, lease: Lease) -> None:
        self.device, self.lease = box.device, lease
        self.now = datetime.now(UTC)
        self.heard: list[str] = []
        self.fates: list[str] = []

    def ingest(self, jws: str) -> protocol.Accepted:
        with time_machine.travel(self.now, tick=False):
            return metering.ingest(device=Device.objects.get(pk=self.device.pk), jws=jws)

    def take_key(self, statement: str) -> None:
        with time_machine.travel(self.now, tick=False):
            device_keys.change(device=Device.objects.get(pk=self.device.pk), jws=statement)

    def billed(self) -> dict[Meter, int]:
        return {Meter(row.meter): row.total for row in MeterTotal.objects.filter(lease=self.lease)}


@dataclass
class Truth:
    """What really was used."""

    nanoseconds: int = 0
    bytes: int = 0
    healthy_ms: int = 0
    byte_ms: int = 0

    def totals(self, rate: int) -> dict[Meter, int]:
        return {
            Meter.COMPUTE: self.nanoseconds * rate // NANO,
            Meter.TRANSFER: self.bytes,
            Meter.UPTIME: self.healthy_ms,
            Meter.STORAGE: self.byte_ms // 1000,
        }


@dataclass
class Computer:
    """One owner's computer with an agent's folder on its disk.

    Attributes:
        wall: how far its clock is off the true time, in seconds.
        lossy: meters of which a fault may have taken something that nobody had looked at.
    """

    folder: Path
    portal: Portal
    rate: int
    kernel: Kernel = field(default_factory=Kernel)
    truth: Truth = field(default_factory=Truth)
    monotonic_ms: int = 1_000_000
    wall: int = 0
    volume: int = 0
    run: int = 0
    lossy: set[Meter] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.known_ms = self.saved_ms = self.monotonic_ms  # the last passed check the process knows of, and its disk
        self.unlooked = self.resized = False  # since the counters, and since the volume's size, were last on disk
        self.start()
        self.recover()
        self.look_at_disk()

    # --- the agent ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin a process from what is on disk."""
        lease, device_id = self.portal.lease, str(self.portal.device.pk)
        self.lease_id = str(lease.pk)
        self.offset = 0
        self.key = keys.load(self.folder / "key")
        boot = str(self.kernel.boot)
        self.meters = Meters(self.folder / "meters.json", instructions_per_second=self.rate, boot_id=boot)
        self.outbox = Outbox(
            self.folder / "out", key=self.key, device_id=device_id, most=MOST_BATCHES, now=self.portals_clock
        )
        workload = protocol.Workload(str(lease.workload_id), "app", protocol.Image(), 80, 1, 1, 1)
        desired = Desired(leases=(DesiredLease(self.lease_id, lease.generation, protocol.Action.RUN, workload),))
        self.seen = Seen(self.lease_id, lease.generation, workload.id, "container", running=True, pid=1, bridge="icn-1")
        self.meters.listed({self.lease_id: lease.generation})
        self.metering = Metering(
            meters=self.meters,
            counters=self.kernel,  # type: ignore[arg-type]
            perf=Mock(available=False, read=Mock(return_value=None)),
            outbox=self.outbox,
            executor=Mock(),
            view=lambda: View(desired, {self.lease_id: self.seen}),
            overfull=Mock(),
            arrived=Mock(),
            now=self.portals_clock,
        )
        self.courier = Courier(
            self,  # type: ignore[arg-type]
            outbox=self.outbox,
            receipts=Mock(waiting=Mock(return_value=[])),
            report=Mock(),
            desired=Mock(),
            revoked=Mock(),
        )

    def killed(self) -> None:
        """What the process knew and its disk did not is gone; what the kernel knows is not."""
        if self.resized:
            self.lossy.add(Meter.STORAGE)
        self.known_ms, self.resized = self.saved_ms, False
        self.start()

    def portals_clock(self) -> float:
        """What `server_api.Portal.now` is: this computer's clock, put right by what a refused token told."""
        return self.portal.now.timestamp() + self.wall + self.offset

    def take(self, fuse: Fuse, steps: int | None = None) -> None:
        if self._dies(fuse, steps, self.metering.take):
            return
        self._all_is_on_disk()

    def stop_and_start(self, fuse: Fuse, steps: int | None = None) -> None:
        """The lease is stopped as `steps.py` does it, begun again if the agent was killed, and runs again with a new cgroup."""
        self.check_health()
        self.metering.look(self.seen)
        while self._dies(fuse, steps, lambda: self.metering.take_last(self.seen)):
            steps = None
        self._all_is_on_disk()
        self.kernel.new_cgroup()
        self.kernel.new_bridge()
        self.run += 1
        self.recover()

    def _dies(self, fuse: Fuse, steps: int | None, do: Callable[[], None]) -> bool:
        try:
            with fuse.armed(steps):
                do()
        except Killed:
            self.killed()
            return True
        return False

    def _all_is_on_disk(self) -> None:
        self.unlooked = self.resized = False
        self.saved_ms = self.known_ms

    def deliver(self, fuse: Fuse, steps: int | None = None, fates: tuple[str, ...] = ()) -> None:
        self.portal.fates = list(fates)
        with suppress(PortalUnreachable):
            self._dies(fuse, steps, self.courier.deliver)
        self.portal.fates = []

    def readings(self, jws: str) -> protocol.Accepted:
        """What `server_api.Portal.readings` is, over a network that loses requests and answers."""
        self.portal.heard.append(jws)
        fate = self.portal.fates.pop(0) if self.portal.fates else "arrives"
        if fate == "lost":
            raise PortalUnreachable("lost on the way")
        if (
            abs(self.wall + self.offset) > WRONG_CLOCK_SECONDS
        ):  # its token is refused, and the answer says what time it is
            self.offset = -self.wall
        try:
            accepted = self.portal.ingest(jws)
        except DomainError as error:
            raise PortalRefused(400, error.code, str(error)) from error
        if fate == "unanswered":
            raise PortalUnreachable("the answer was lost")
        return accepted

    def rotate(self) -> None:
        """Change the key as `rotation.py` does."""
        fresh = keys.create(self.folder / "next")
        bare = protocol.KeyChange(str(self.portal.device.pk), fresh.public_x)
        proof = fresh.sign(protocol.to_json(bare))
        statement = protocol.KeyChange(bare.device_id, bare.new_key, proof)
        self.portal.take_key(self.key.sign(protocol.to_json(statement)))
        (self.folder / "next").replace(self.folder / "key")
        self.key.adopt(fresh)

    # --- what happens to it -------------------------------------------------------------------------------------------

    def pass_time(self, seconds: int, *, percent: int = 0, traffic: int = 0, healthy: bool = True) -> None:
        """Let the app work so long; nobody looks."""
        self.monotonic_ms += seconds * 1000
        self.portal.now += timedelta(seconds=seconds)
        used = seconds * NANO * percent // 100
        self.kernel.nanoseconds += used
        self.kernel.bytes += traffic
        self.truth.nanoseconds += used
        self.truth.bytes += traffic
        self.truth.byte_ms += self.volume * seconds * 1000
        self.truth.healthy_ms += seconds * 1000 if healthy else 0
        self.unlooked = self.unlooked or bool(used or traffic)

    def check_health(self) -> None:
        """The health check passes now."""
        if self.monotonic_ms - self.known_ms > LONGEST_UNSEEN_MS:
            self.lossy.add(Meter.UPTIME)
        self.meters.healthy(self.lease_id, f"run {self.run}", self.monotonic_ms)
        self.known_ms = self.monotonic_ms

    def fall_ill(self) -> None:
        """The health check passes for the last time, then fails."""
        self.check_health()
        self.meters.unhealthy(self.lease_id)
        self.saved_ms, self.resized = self.monotonic_ms, False

    def recover(self) -> None:
        """The health check passes again, and that is on disk, as in `watch.py`."""
        self.meters.healthy(self.lease_id, f"run {self.run}", self.monotonic_ms)
        self.meters.save()
        self.known_ms = self.saved_ms = self.monotonic_ms
        self.resized = False

    def look_at_disk(self) -> None:
        self.meters.held(self.lease_id, self.volume, self.monotonic_ms)

    def resize(self, size: int) -> None:
        """Look, change the volume's size, look."""
        self.look_at_disk()
        self.volume = size
        self.look_at_disk()
        self.resized = True

    def restart_container(self) -> None:
        """The app ends and is started again; its cgroup and bridge stay."""
        self.fall_ill()
        self.run += 1
        self.recover()

    def lose_unlooked(self, *meters: Meter) -> None:
        if self.unlooked:
            self.lossy |= set(meters)

    def reboot(self, *, off: timedelta, until_agent: timedelta) -> None:
        """Switch off and on again; the agent, which starts the apps, comes so long after."""
        self.lossy |= {Meter.UPTIME, Meter.STORAGE}
        self.lose_unlooked(Meter.COMPUTE, Meter.TRANSFER)
        self.kernel.reboot()
        self.portal.now += off + until_agent
        self.monotonic_ms, self.run = until_agent // timedelta(milliseconds=1), self.run + 1
        self.saved_ms = self.monotonic_ms
        self.killed()
        self.unlooked = False

    def cloned(self, folder: Path) -> Computer:
        """Return another computer with a copy of this one's disk, key and all."""
        shutil.copytree(self.folder, folder)
        self.lossy |= set(Meter)
        return Computer(
            folder,
            self.portal,
            self.rate,
            kernel=Kernel(boot=10_000),
            truth=copy.copy(self.truth),
            wall=self.wall,
            volume=self.volume,
            lossy=set(Meter),
        )
