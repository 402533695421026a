"""Whose reading a volume's size goes into."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

from nodes.agent.meter import Meters
from nodes.agent.metering import Metering, View
from nodes.agent.protocol import Action, Desired, DesiredLease, Meter
from nodes.agent.tests.conftest import lease, workload


def measured(folder: Path, *leases: DesiredLease) -> set[str]:
    """Return the leases whose storage is counted when these are listed."""
    meters = Meters(folder / f"{uuid.uuid4()}.json", instructions_per_second=1, boot_id="boot")
    metering = Metering(
        meters=meters,
        counters=Mock(),
        perf=Mock(),
        outbox=Mock(),
        executor=Mock(volume_path=Mock(return_value=str(folder))),
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
