"""What is read, when it is on disk, and what the outbox is told."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from nodes.agent import files, keys
from nodes.agent.counters import Raw
from nodes.agent.errors import AgentError
from nodes.agent.executor import Volume
from nodes.agent.meter import Meters
from nodes.agent.metering import NOTICED_BYTES, QUIET_WATCH_SECONDS, WATCH_SECONDS, Metering, View
from nodes.agent.outbox import Outbox, _payload
from nodes.agent.protocol import Action, Desired, DesiredLease, Meter, Reading
from nodes.agent.reconcile import Seen
from nodes.agent.tests.conftest import lease, workload


def measured(folder: Path, *leases: DesiredLease) -> set[str]:
    """Return the leases whose storage is counted when these are listed."""
    meters = Meters(folder / f"{uuid.uuid4()}.json", instructions_per_second=1, boot_id="boot")
    metering = Metering(
        meters=meters,
        counters=Mock(),
        perf=Mock(),
        outbox=Mock(),
        executor=Mock(volume=Mock(return_value=Volume(1000, bounded=True))),
        view=lambda: View(Desired(leases=leases), {}),
        overfull=Mock(),
        arrived=Mock(),
    )
    metering._look_at_disks()
    meters.save()
    found = (reading for one in leases for reading in meters.readings(one.lease_id, one.generation, "now"))
    return {reading.lease_id for reading in found if reading.meter is Meter.STORAGE}


def test_a_volume_counts_once_for_the_newest_lease_that_has_one(tmp_path: Path) -> None:
    first = lease(workload(volume_path="/data"), action=Action.STOP)
    second = replace(first, lease_id="second", generation=2, action=Action.RUN)
    assert measured(tmp_path, first) == {first.lease_id}
    assert measured(tmp_path, first, second) == {"second"}
    without = replace(second, lease_id="third", generation=3, workload=replace(first.workload, volume_path=""))
    assert measured(tmp_path, first, without) == {first.lease_id}


@dataclass
class Device:
    """One lease's counters, and the agent's memory of them in a folder; `kill` leaves the folder."""

    folder: Path
    desired: Desired
    seen: dict[str, Seen]
    bytes: int = 0
    failures: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kill()

    def kill(self) -> None:
        """Begin a new process from what is on disk."""
        self.meters = Meters(self.folder / "meters.json", instructions_per_second=1, boot_id="boot")
        self.outbox = Outbox(self.folder / "out", key=keys.create(self.folder / "key"), device_id="d", most=4)
        self.metering = Metering(
            meters=self.meters,
            counters=Mock(cpu_nanoseconds=Mock(return_value=None), interface_bytes=self._count),
            perf=Mock(),
            outbox=self.outbox,
            executor=Mock(
                layer=Mock(return_value=None), growing=Mock(return_value=set()), free=Mock(return_value=10**12)
            ),
            view=lambda: View(self.desired, self.seen),
            overfull=Mock(),
            arrived=Mock(),
        )

    def _count(self, bridge: str) -> Raw:
        if self.failures:
            raise self.failures.pop()
        return Raw(bridge, self.bytes)

    def said(self) -> list[Reading]:
        """Deliver everything; returns it."""
        found: list[Reading] = []
        while (item := self.outbox.oldest()) is not None:
            found += _payload(item[1]).readings
            self.outbox.confirmed(item[0])
        return found


@pytest.fixture
def device(tmp_path: Path) -> Device:
    wanted = lease(workload())
    seen = Seen(wanted.lease_id, 1, wanted.workload.id, "c", running=True, bridge="icn-1")
    made = Device(tmp_path, Desired(leases=(wanted,)), {wanted.lease_id: seen})
    made.meters.listed({wanted.lease_id: 1})
    return made


def test_killed_between_its_two_files_it_says_at_its_next_start_what_only_the_first_had(device: Device) -> None:
    device.bytes = 70
    device.metering._outbox = Mock(lost=0, put=Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        device.metering.take_last(next(iter(device.seen.values())))
    device.desired, device.seen = Desired(), {}  # and the portal names the lease no more
    device.kill()
    device.metering.take()
    assert [item.total for item in device.said()] == [70]


def test_what_could_not_be_delivered_is_said_again(device: Device) -> None:
    device.bytes = 70
    device.metering.take()
    for _ in range(2):
        device.outbox.refused(device.outbox.oldest()[0])
    assert device.said() == []
    device.metering.take()
    assert [item.total for item in device.said()] == [70]
    device.metering.take()
    assert device.said() == [], "and then only what grows"


def test_one_leases_failure_keeps_no_other_from_being_read(device: Device) -> None:
    other = replace(next(iter(device.seen.values())), lease_id="other")
    device.seen["other"], device.failures, device.bytes = other, [ValueError("a counter that is no number")], 70
    device.metering.take()
    assert device.meters.transfers() == {"other": 70}


@pytest.mark.parametrize("failure", [ValueError("of ours"), OSError("full"), AgentError("Docker")])
def test_no_failure_ends_the_metering(device: Device, failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    save, failures, device.bytes = device.meters.save, [failure], 70
    monkeypatch.setattr(device.meters, "save", lambda: _raise(failures.pop()) if failures else save())
    device.desired = replace(device.desired, reading_interval_seconds=1)
    arrived = threading.Event()
    device.metering._arrived = arrived.set
    device.metering.start()
    assert arrived.wait(20)
    device.metering.stop()
    device.metering.join(20)
    assert max(item.total for item in device.said()) == 70


def _raise(error: Exception) -> None:
    raise error


def test_totals_are_on_disk_before_they_are_told(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    written = files.write_atomic
    monkeypatch.setattr(files, "write_atomic", lambda path, data: order.append(path.suffix) or written(path, data))
    device.bytes = 5
    device.metering.take()
    assert order == [".json", ".jws"]


def test_the_disk_is_looked_at_as_often_as_it_could_fill(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    room, now, metering = 100 * 10**9, 1000.0, device.metering
    monkeypatch.setattr("time.monotonic", lambda: now)
    device.metering._executor = Mock(room=lambda: room)
    assert metering._watch_pause() == WATCH_SECONDS, "before the first look nothing is known"
    assert not metering._fills()
    assert metering._watch_pause() == QUIET_WATCH_SECONDS
    room -= NOTICED_BYTES
    metering._fills()
    assert metering._watch_pause() == WATCH_SECONDS, "somebody writes"
    now += 10
    metering._fills()
    assert metering._watch_pause() == QUIET_WATCH_SECONDS, "nobody does any more"
    for room in (10 * 10**9, 10**9):
        now += 10
        metering._fills()
        now += 10
        assert metering._watch_pause() * 10**10 <= max(room / 4, 10**10 * WATCH_SECONDS)
    assert metering._watch_pause() == WATCH_SECONDS, "little is free"
