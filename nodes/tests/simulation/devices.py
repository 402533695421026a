"""A device that follows the protocol in a simulated world, and what can befall it."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from django.utils import timezone

from interchain_site.testing.devices import FakeDevice
from nodes import queries
from nodes.agent.protocol import Action, DesiredLease, Meter, Method, Observed, Reading, Reason, Report, Status
from nodes.models import Device, Snapshot
from nodes.services import leases, liveness, metering

HOST_PORT = 20_000  # below the ports the portal itself is given
POLL_SECONDS = 15.0


@dataclass
class Copy:
    """One lease's container on the device."""

    wanted: DesiredLease
    ready_in: float
    running: bool = False
    uptime_ms: int = 0

    @property
    def fault(self) -> str:
        """What is wrong with what it runs: "exits", "hangs", or nothing."""
        return self.wanted.workload.environment.get("FAULT", "")


@dataclass
class SimulatedDevice:
    """Does in each tick what an agent does: look, take steps, report, measure. Times in simulated seconds."""

    number: int
    box: FakeDevice
    start_seconds: float
    liar: bool = False
    powered: bool = True
    frozen_for: float = 0.0
    deaf: bool = False  # what the portal sends does not arrive
    mute: bool = False  # what it sends does not arrive
    broken_for: float = 0.0  # Docker fails: every lease on it does
    copies: dict[str, Copy] = field(default_factory=dict)
    listed: dict[str, DesiredLease] = field(default_factory=dict)
    told: tuple[Status, ...] = ()
    woken: bool = True
    poll_in: float = 0.0

    @property
    def id(self) -> UUID:
        return self.box.device.pk

    @property
    def is_awake(self) -> bool:
        return self.powered and self.frozen_for <= 0

    @property
    def is_linked(self) -> bool:
        """Whether its link is up: a WebSocket's pings need both directions."""
        return self.is_awake and not self.deaf and not self.mute

    def port_of(self, lease_id: str) -> int:
        return HOST_PORT + int(lease_id[:3], 16)

    def pass_time(self, seconds: float) -> None:
        """Containers run on, whatever the portal thinks; a frozen device's do not."""
        self.broken_for -= seconds
        self.poll_in -= seconds
        if self.frozen_for > 0:
            self.frozen_for -= seconds
            return
        if not self.powered:
            return
        for copy in self.copies.values():
            copy.ready_in -= seconds
            if copy.running:
                copy.uptime_ms += int(seconds * 1000)
            copy.running = copy.ready_in <= 0 and copy.wanted.action is Action.RUN and not copy.fault

    def talk(self) -> None:
        """One round with the portal over HTTPS, which needs both directions: when woken, when back, and now and then."""
        if not self.is_linked:
            self.woken, self.told = True, ()
            return
        if self.woken or self.poll_in <= 0:
            device = Device.objects.get(pk=self.id)
            liveness.heard([device.pk])
            liveness.mark_online(device)
            self._take(queries.desired_of(device).leases)
            self.woken, self.poll_in, self.told = False, POLL_SECONDS, ()
            self._copy_volumes()
        statuses = tuple(self._statuses())
        if statuses != self.told:
            leases.handle_report(device=Device.objects.get(pk=self.id), report=Report(statuses=statuses))
            self.told = statuses

    def measure(self) -> None:
        """Send what its copies used so far; a liar claims an hour more."""
        at = timezone.now().isoformat()
        readings = [
            Reading(lease_id, copy.wanted.generation, Meter.UPTIME, self._claim(copy), at, Method.CLOCK)
            for lease_id, copy in self.copies.items()
            if copy.wanted.action is Action.RUN
        ]
        if readings and self.is_linked:
            batch = self.box.batch(*readings, created_at=at)
            metering.ingest(device=Device.objects.get(pk=self.id), jws=batch)

    def _copy_volumes(self) -> None:
        """Take the snapshots that are wanted of what has stopped."""
        for lease in self.listed.values():
            if lease.snapshot_id and lease.action is Action.STOP:
                wanted = Snapshot.objects.select_related("lease").filter(pk=lease.snapshot_id, state="wanted")
                for snapshot in wanted:
                    now = timezone.now()
                    Snapshot.objects.filter(pk=snapshot.pk).update(
                        state="taken", restic_id="a" * 64, taken_at=now, ended_at=now
                    )
                    leases.note_due(snapshot.lease)

    def _claim(self, copy: Copy) -> int:
        return copy.uptime_ms + 3_600_000 * self.liar

    def _take(self, desired: tuple[DesiredLease, ...]) -> None:
        self.listed = listed = {lease.lease_id: lease for lease in desired}
        for lease_id in list(self.copies):
            if lease_id not in listed or listed[lease_id].action in (Action.STOP, Action.WIPE):
                del self.copies[lease_id]
        for lease_id, lease in listed.items():
            if lease.action not in (Action.RUN, Action.STANDBY):
                continue
            copy = self.copies.get(lease_id)
            if copy is None:
                self.copies[lease_id] = Copy(lease, self.start_seconds)
            else:
                copy.wanted = lease

    def _statuses(self) -> list[Status]:
        told = []
        for lease_id, wanted in self.listed.items():
            generation, copy = wanted.generation, self.copies.get(lease_id)
            if copy is None:
                told.append(Status(lease_id, generation, Observed.STOPPED))
            elif self.broken_for > 0:
                told.append(Status(lease_id, generation, Observed.FAILED, reason=Reason.DEVICE_ERROR))
                del self.copies[lease_id]
            elif copy.wanted.action is Action.STANDBY:
                observed = Observed.READY if copy.ready_in <= 0 else Observed.PREPARING
                told.append(Status(lease_id, generation, observed))
            elif copy.fault == "exits" and copy.ready_in <= 0:
                told.append(Status(lease_id, generation, Observed.FAILED, reason=Reason.EXITED, message="exit code 1"))
                del self.copies[lease_id]
            elif copy.running:
                told.append(Status(lease_id, generation, Observed.RUNNING, host_port=self.port_of(lease_id)))
            else:
                told.append(Status(lease_id, generation, Observed.PREPARING))
        return told
