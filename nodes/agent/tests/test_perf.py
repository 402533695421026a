"""Counting a cgroup through perf_event_open: a software event here, because virtual machines hide the hardware's."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.agent.counters import Raw
from nodes.agent.meter import Meters
from nodes.agent.perf import Perf
from nodes.agent.protocol import Meter, Method

SOFTWARE_TASK_CLOCK = (1, 1)  # nanoseconds of processor time


@pytest.fixture
def cgroup() -> Iterator[str]:
    lease_id = str(uuid.uuid4())
    roots = [
        root for root in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")) if (root / "cgroup.procs").exists()
    ]
    if os.geteuid() != 0 or not roots:
        pytest.skip("needs root and a version 2 cgroup tree")
    folder = roots[0] / "interchain" / lease_id
    try:
        folder.mkdir(parents=True)
    except OSError:
        pytest.skip("needs a writable version 2 cgroup tree")
    yield lease_id
    folder.rmdir()


def burn_in(lease_id: str) -> None:
    root = next(
        root
        for root in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
        if (root / "interchain" / lease_id).exists()
    )
    procs = root / "interchain" / lease_id / "cgroup.procs"
    subprocess.run(["sh", "-c", f"echo $$ > {procs}; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"], check=True)


def test_counts_a_cgroup_and_nothing_else(cgroup: str) -> None:
    perf = Perf(event=SOFTWARE_TASK_CLOCK)
    if not perf.watch(cgroup):
        pytest.skip("this kernel does not let us count")
    assert perf.read(cgroup).value == 0
    burn_in(cgroup)
    first = perf.read(cgroup)
    assert first.value > 10_000_000
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        pass
    assert perf.read(cgroup) == first, "what runs elsewhere is not counted"
    perf.forget(cgroup)
    assert perf.read(cgroup) is None


def test_what_is_not_there_is_not_counted(tmp_path: Path) -> None:
    perf = Perf(tmp_path)
    assert not perf.available
    assert not perf.watch("nothing")
    assert perf.read("nothing") is None


def test_hardware_counts_replace_the_rate_from_when_they_begin(tmp_path: Path) -> None:
    meters = Meters(tmp_path / "m", instructions_per_second=10**9, boot_id="b")
    meters.cpu("a", Raw("cpu", 1000))  # not counted yet: 1,000 ns at one a nanosecond
    meters.cpu("a", Raw("cpu", 5000), Raw("perf:1", 300))
    meters.cpu("a", Raw("cpu", 9000), Raw("perf:1", 700))
    meters.cpu("a", Raw("cpu", 9500))  # the agent was restarted: by the rate until it counts again
    meters.cpu("a", Raw("cpu", 9900), Raw("perf:2", 50))
    meters.save()
    reading = next(item for item in meters.readings("a", 1, "now") if item.meter is Meter.COMPUTE)
    assert (reading.total, reading.method) == (1000 + 700 + 500 + 50, Method.PERF)
