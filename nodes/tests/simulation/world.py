"""A seeded world: the control plane's own code on a real database and a real Valkey, simulated devices, a clock of its own.

What runs after a commit is queued here, so that a killed process is one whose queue is dropped. Nothing in a world depends on anything but its
seed: `SIMULATION_SEED=N bin/test nodes/tests/simulation/test_simulation.py` does the same again.

Longer than 300 lines because what can happen and what must hold then are one world.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock
from uuid import UUID

import time_machine
from django.utils import timezone

from interchain_site.core import redis
from interchain_site.testing.devices import FakeDevice, make_workload
from nodes.agent.protocol import Workload
from nodes.models import Device, Lease, MeterTotal, ReplicaSet, Rollout
from nodes.services import election, liveness, moving, placement, routes, succession, suspicion
from nodes.states import ALIVE, WANTED
from nodes.tests.simulation.devices import SimulatedDevice

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
TICK = 1.0
STALE_ROUTE_SECONDS = 15
MOST_TICKS_TO_REST = 40
LIAR_SECONDS = 31  # what a clock may be off by, and so what a liar can gain on one lease


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, boxes: list[FakeDevice], clock: time_machine.Coordinates) -> None:
        self.random, self.clock = random.Random(seed), clock
        self.devices = [
            SimulatedDevice(n, box, self.random.choice([0.5, 2.0, 6.0]), liar=n == 0 and seed % 4 == 0)
            for n, box in enumerate(boxes)
        ]
        self.queue: list[Callable[[], object]] = []
        self.log: list[str] = []
        self.seconds = 0.0
        self.portal_down_for = 0.0
        self.homes: dict[UUID, UUID] = {}
        self.releases = 0
        self.good: dict[UUID, Workload] = {}
        self.replaced: set[UUID] = set()

    # --- time --------------------------------------------------------------------------------------------------------
    def tick(self, seconds: float = TICK) -> None:
        """Let time pass: devices first, then the portal's periodic work, then what waited for a commit; then look."""
        before, self.seconds = self.seconds, self.seconds + seconds
        self.clock.move_to(BEGAN + timedelta(seconds=self.seconds))
        for device in self.devices:
            device.pass_time(seconds)
        self.portal_down_for -= seconds
        if self.portal_down_for > 0:
            return
        self._beat()
        for device in self.devices:
            device.talk()
            self.settle()
        if self._every(5, before):
            liveness.sweep()
            self.settle()
        if self._every(3, before):
            election.sweep()
            self.settle()
        if self._every(10, before):
            routes.republish_all()
            for device in self.devices:
                device.measure()
        self.settle()

    def settle(self) -> None:
        """Do what waits for a commit, and what that makes wait."""
        while self.queue:
            self.queue.pop(0)()

    def _every(self, seconds: int, before: float) -> bool:
        return int(before // seconds) != int(self.seconds // seconds)

    def _beat(self) -> None:
        liveness.listening()
        liveness.heard([device.id for device in self.devices if device.is_linked], again=True)

    # --- what happens ------------------------------------------------------------------------------------------------
    def befall(self) -> None:
        """One thing at random, good or bad."""
        device = self.random.choice(self.devices)
        faults: list[Callable[[SimulatedDevice], None]] = [
            self._power_cut, self._power_back, self._freeze, self._cut_both, self._cut_one_way, self._heal,
            self._docker_breaks, self._portal_restarts, self._redis_flushed, self._worker_killed, self._report,
            self._false_report, self._scale, self._release, self._release, self._drain,
        ]  # fmt: skip
        fault = self.random.choice(faults)
        self.log.append(f"{self.seconds:g}s {fault.__name__.strip('_')} device {device.number}")
        fault(device)
        self.settle()

    def _power_cut(self, device: SimulatedDevice) -> None:
        device.powered = False
        device.copies.clear()

    def _power_back(self, device: SimulatedDevice) -> None:
        device.powered = True

    def _freeze(self, device: SimulatedDevice) -> None:
        device.frozen_for = self.random.uniform(1, 40)

    def _cut_both(self, device: SimulatedDevice) -> None:
        device.deaf = device.mute = True

    def _cut_one_way(self, device: SimulatedDevice) -> None:
        device.deaf, device.mute = self.random.choice([(True, False), (False, True)])

    def _heal(self, device: SimulatedDevice) -> None:
        device.deaf = device.mute = False
        device.frozen_for = 0.0

    def _docker_breaks(self, device: SimulatedDevice) -> None:
        device.broken_for = self.random.uniform(1, 20)

    def _portal_restarts(self, device: SimulatedDevice) -> None:
        self.queue.clear()
        self.portal_down_for = self.random.uniform(0, 40)
        redis.connection().delete(liveness.LISTENING_KEY)

    def _redis_flushed(self, device: SimulatedDevice) -> None:
        redis.connection().flushall()

    def _worker_killed(self, device: SimulatedDevice) -> None:
        """What is found lost is written down, and then nobody is left to act on it."""
        if not device.is_linked and self.portal_down_for <= 0:
            liveness.lose(Device.objects.get(pk=device.id))
            self.queue.clear()

    def _report(self, device: SimulatedDevice) -> None:
        """A client or gateway cannot reach what runs there."""
        if device.is_linked or self.portal_down_for > 0:
            return
        self._suspect(device)

    def _false_report(self, device: SimulatedDevice) -> None:
        if self.portal_down_for > 0 or not device.is_linked:
            return
        before = set(Lease.objects.filter(device_id=device.id, state="running").values_list("pk", flat=True))
        self._suspect(device)
        lost = Lease.objects.filter(pk__in=before, state="lost")
        assert not lost.exists(), "a false report took an app from a device that answers"

    def _suspect(self, device: SimulatedDevice) -> None:
        redis.connection().delete(f"nodes:asked:{device.id}")
        for lease in Lease.objects.filter(device_id=device.id, action="run", host_port__gt=0).select_related("device"):
            endpoint = succession.endpoint_of(lease)
            suspicion.suspect_endpoint(workload_id=lease.workload_id, endpoint=endpoint, source="client")

    def _scale(self, device: SimulatedDevice) -> None:
        from interchain_site.core.errors import DomainError
        from nodes.services import scaling

        wanted = self.random.choice(list(ReplicaSet.objects.filter(has_volume=False).order_by("name")))
        try:
            replicas, standby = self.random.randint(1, 3), self.random.random() < 0.5
            scaling.scale(workload_id=wanted.pk, replicas=replicas, standby=standby, by=None)
        except DomainError:
            return

    def _release(self, device: SimulatedDevice) -> None:
        """A new release of something; one in three never comes up."""
        from interchain_site.core.errors import DomainError
        from nodes.services import rollout_ends, rollouts

        wanted = self.random.choice(list(ReplicaSet.objects.order_by("name")))
        fault = self.random.choice(["", "", "", "", "exits", "hangs"])
        self.releases += 1
        workload = replace(wanted.workload, environment={"RELEASE": str(self.releases), "FAULT": fault})
        if rollout_ends.under_way(wanted.pk) is None:
            self.good[wanted.pk] = wanted.workload
        try:
            if rollouts.begin(workload=workload, by=None) is None:
                self.replaced.add(wanted.pk)
        except DomainError:
            return

    def _drain(self, device: SimulatedDevice) -> None:
        """Its owner wants it empty."""
        moving.move_away(Device.objects.get(pk=device.id), reason="It drains.")

    # --- what must hold ----------------------------------------------------------------------------------------------
    def check(self) -> None:
        """What holds at every moment, whatever happens."""
        newest = list(Lease.objects.filter(is_newest=True).select_related("device"))
        sets = {wanted.pk: wanted for wanted in ReplicaSet.objects.all()}
        for pk, wanted in sets.items():
            mine = {lease.slot: lease for lease in newest if lease.workload_id == pk}
            vacant = [n for n in range(wanted.replicas) if n not in mine or mine[n].state not in ALIVE]
            due = wanted.due_at is not None or any(lease.due_at is not None for lease in mine.values())
            if pk in self.replaced and wanted.workload.environment.get("FAULT"):
                vacant = []  # its own fault, and nothing to go back to
            assert due or not vacant, f"{wanted.name}: nobody looks for slots {vacant}"
            self._check_handovers(wanted, mine)
            wants = [lease.device_id for lease in mine.values() if lease.action in WANTED]
            assert len(wants) == len(set(wants)), f"{wanted.name}: two slots on one device"
            if wanted.has_volume:
                home = self.homes.setdefault(pk, mine[0].device_id)
                assert mine[0].device_id == home, f"{wanted.name}: started away from its data"
        self._check_routes()

    def _check_handovers(self, wanted: ReplicaSet, mine: dict[int, Lease]) -> None:
        """A copy that serves gives way only to one that is healthy; a route names one copy of a slot."""
        for lease in Lease.objects.filter(workload_id=wanted.pk, action="run", is_newest=False):
            assert mine[lease.slot].replaces_id == lease.pk, f"{wanted.name}: a copy is left over in slot {lease.slot}"
        gave_way = Lease.objects.filter(workload_id=wanted.pk, uptime_until=timezone.now(), fenced_at=None)
        for lease in gave_way:
            new = Lease.objects.get(replaces=lease, uptime_from=lease.uptime_until)
            assert new.running_at is not None, f"{wanted.name}: slot {lease.slot} gave way to a copy that never ran"
        serving = succession.serving(wanted.pk)
        assert len({lease.slot for lease in serving}) == len(serving), f"{wanted.name}: two copies of one slot serve"

    def _check_routes(self) -> None:
        gone = timezone.now() - timedelta(seconds=STALE_ROUTE_SECONDS)
        fenced = Lease.objects.filter(fenced_at__lt=gone, state="draining").select_related("device")
        stale = {
            (str(lease.workload_id), f"{lease.device.endpoint_host}:{lease.host_port}")
            for lease in fenced
            if lease.host_port
        }
        if stale and self.portal_down_for < -STALE_ROUTE_SECONDS:
            for text in redis.connection().hgetall(routes.ROUTES_KEY).values():
                document = json.loads(text)
                for upstream in document["upstreams"]:
                    assert (document["workload_id"], upstream) not in stale, f"stale route {upstream}"

    def heal_everything(self) -> None:
        """All faults end; what had failed is forgiven in time; everything comes to rest."""
        self.portal_down_for = 0.0
        for device in self.devices:
            device.powered, device.broken_for = True, 0.0
            self._heal(device)
        for seconds in (1, 5, 5, 16 * 60, 1, 5, 5, 5):
            self.tick(seconds)
            self.check()
        for _ in range(MOST_TICKS_TO_REST):
            if not self._is_releasing():
                break
            self.tick(6)
            self.check()
        self.tick()  # what was asked to stop last is told so
        self.check()
        routes.republish_all()

    def _is_releasing(self) -> bool:
        going = Lease.objects.filter(action="run", is_newest=False).exists()
        return (
            going
            or Rollout.objects.filter(state="rolling").exists()
            or ReplicaSet.objects.exclude(due_at=None).exists()
        )

    def check_at_rest(self) -> None:
        """With every device well again: the wanted count runs, routes name it, each slot was billed for one copy."""
        for wanted in ReplicaSet.objects.all():
            running = Lease.objects.filter(workload_id=wanted.pk, state="running", is_newest=True).select_related(
                "device"
            )
            if wanted.pk in self.replaced and wanted.workload.environment.get("FAULT"):
                continue  # nothing served when it was released, so there was nothing to go back to
            assert running.count() == wanted.replicas, f"{wanted.name}: {running.count()} of {wanted.replicas} run"
            versions = {lease.version for lease in running}
            assert versions == {wanted.version}, f"{wanted.name}: runs {versions}, wanted {wanted.version}"
            assert not wanted.workload.environment.get("FAULT"), f"{wanted.name}: a bad release stayed"
            document = json.loads(redis.connection().hget(routes.ROUTES_KEY, wanted.name))
            assert document["upstreams"] == [succession.endpoint_of(lease) for lease in running.order_by("slot")]
            self._check_copies(wanted)
            self._check_bill(wanted)

    def _check_copies(self, wanted: ReplicaSet) -> None:
        copies = [
            lease_id
            for device in self.devices
            for lease_id, copy in device.copies.items()
            if copy.running and copy.wanted.workload.id == str(wanted.pk)
        ]
        assert len(copies) == wanted.replicas, f"{wanted.name}: {len(copies)} copies really run"

    def _check_bill(self, wanted: ReplicaSet) -> None:
        for slot in range(3):
            rows = Lease.objects.filter(workload_id=wanted.pk, slot=slot)
            liars = [device.id for device in self.devices if device.liar]
            total = sum(MeterTotal.objects.filter(lease__in=rows).values_list("total", flat=True))
            most = self.seconds + LIAR_SECONDS * rows.filter(device_id__in=liars).count()
            assert total <= most * 1000, f"{wanted.name} slot {slot}: billed {total} ms of {most:g} s"

    def open_apps(self) -> None:
        for number, (replicas, volume) in enumerate([(1, ""), (2, ""), (1, "/data")]):
            workload = make_workload(f"app{number}", volume_path=volume, id=str(UUID(int=number + 1)))
            standby = number == 0 and self.random.random() < 0.5
            placement.open_lease(workload=workload, replicas=replicas, standby=standby, by=None)
            self.settle()


@contextmanager
def world(seed: int, boxes: list[FakeDevice]) -> Iterator[World]:
    """A world in which time stands still between ticks. The caller rolls the database back."""
    redis.connection().flushall()
    with time_machine.travel(BEGAN, tick=False) as clock:
        made = World(seed, boxes, clock)
        by_id = {device.id: device for device in made.devices}

        def queued(work: Callable[[], object], using: Any = None, robust: bool = False) -> None:
            made.queue.append(work)

        def wake(device_ids: Collection[UUID], kind: str) -> None:
            for device_id in device_ids:
                by_id[device_id].woken = True

        with (
            mock.patch("django.db.transaction.on_commit", queued),
            mock.patch("nodes.services.wake._publish", wake),
            mock.patch("nodes.services.pings.answers", lambda device_id: by_id[device_id].is_linked),
        ):
            yield made


def live(made: World, *, steps: int) -> None:
    """Let a world go on for so many events and come to rest; raises AssertionError when something did not hold."""
    made.open_apps()
    for seconds in (1, 3, 4):
        made.tick(seconds)
    for _ in range(steps):
        made.befall()
        for _ in range(made.random.randint(1, 2)):
            made.tick(made.random.choice([1.0, 3.0, 6.0, 16.0]))
        if made.portal_down_for <= 0:
            made.check()
    made.heal_everything()
    made.check_at_rest()
