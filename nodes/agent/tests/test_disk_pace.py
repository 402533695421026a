"""An app's part of the disk's pace: the rule for any device, and that the kernel holds a real container to it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interchain_site.testing import docker as engine
from nodes.agent import config as configuration
from nodes.agent import disk_pace
from nodes.agent.config import Home
from nodes.agent.protocol import Image, Observed
from nodes.agent.tests.conftest import AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.test_sandbox_holds import inside

MIB = 2**20
WRITTEN_MIB = 32
START_SECONDS = 60


@given(
    disk=st.integers(1, 2**34),
    cores=st.integers(1, 128),
    parts=st.lists(st.integers(1, 1000), min_size=1, max_size=40),
)
def test_apps_on_a_full_device_get_a_quarter_of_the_disk(disk: int, cores: int, parts: list[int]) -> None:
    shares = [part * cores * 1000 // sum(parts) for part in parts]
    given_out = [disk_pace.allowed(share, disk=disk, cores=cores) for share in shares]
    assert all(each >= disk_pace.LEAST_BYTES_PER_SECOND for each in given_out)
    above_the_least = sum(each for each in given_out if each > disk_pace.LEAST_BYTES_PER_SECOND)
    assert above_the_least <= disk // 4


def test_what_was_not_measured_is_not_held() -> None:
    assert disk_pace.allowed(1000, disk=0, cores=2) == 0


def test_the_disk_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    assert disk_pace.measure(tmp_path) > 0
    assert not list(tmp_path.iterdir())


def seconds_to_flush(container: str) -> float:
    began = time.monotonic()
    code, text = inside(container, f"dd if=/dev/zero of=/data/much bs=1M count={WRITTEN_MIB} conv=fsync")
    assert code == 0, text
    return time.monotonic() - began


@pytest.mark.docker
def test_a_real_app_is_held_to_its_part_after_a_crash_too(agent: AgentProcess, portal: FakePortal) -> None:
    home = Home(agent.home)
    known = configuration.load(home)
    assert known.flushed_bytes_per_second > 0, "measured at the first start"
    slow = disk_pace.LEAST_BYTES_PER_SECOND
    configuration.save(home, replace(known, flushed_bytes_per_second=slow))
    agent.kill()
    agent.start()
    serve = Image(reference=engine.image("httpd -f -p 8080 -h /www"))
    one = lease(workload(image=serve, volume_path="/data", disk_bytes=96 * MIB))
    portal.want(one)
    portal.wait_for(one.lease_id, Observed.RUNNING, START_SECONDS)
    container = f"interchain-{one.lease_id}"
    least = WRITTEN_MIB * MIB / slow * 0.75
    assert seconds_to_flush(container) > least
    first = engine.docker("inspect", "-f", "{{.State.StartedAt}}", container)
    engine.docker("kill", container)
    portal.wait(
        lambda: (
            engine.docker("inspect", "-f", "{{.State.StartedAt}} {{.State.Running}}", container)
            not in (f"{first} true", f"{first} false")
        ),
        START_SECONDS,
        "the app is started again",
    )
    assert seconds_to_flush(container) > least, "its volume may be offered by another device now"
