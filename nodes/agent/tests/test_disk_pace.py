"""An app's part of the disk's pace: the rule for any device, and that the kernel holds a real container to it."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interchain_site.testing import docker as engine
from nodes.agent import config as configuration
from nodes.agent import disk_pace
from nodes.agent.config import Home
from nodes.agent.disk_pace import DiskPace
from nodes.agent.protocol import Image, Observed
from nodes.agent.tests.conftest import AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.test_sandbox_holds import inside

MIB = 2**20
WRITTEN_MIB = 32
WRITES = 1000
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


def test_writes_are_a_part_of_the_processors_whatever_the_disk() -> None:
    assert disk_pace.allowed_writes(2000) == 4 * disk_pace.allowed_writes(500)
    assert disk_pace.allowed_writes(1) == disk_pace.LEAST_WRITES_PER_SECOND


def test_a_layer_alone_has_all_of_an_apps_pace_and_beside_a_volume_a_quarter() -> None:
    size: "dict[str, Any]" = {"disk": 2**40, "cores": 2}
    alone, quarter = (disk_pace.held(part, **size, volume="", layer="/l.dev") for part in (1000, 250))
    (volume,) = disk_pace.held(1000, **size, volume="/v.dev", layer="")
    assert (volume.bytes, volume.writes) == (alone[0].bytes, alone[0].writes)
    assert disk_pace.held(1000, **size, volume="/v.dev", layer="/l.dev") == (volume, *quarter)
    assert disk_pace.held(1000, **size, volume="", layer="") == ()


def test_the_disk_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    assert disk_pace.measure(tmp_path) > 0
    assert not list(tmp_path.iterdir())


class Device:
    """A disk that is measured at moments a test chooses."""

    def __init__(self, folder: Path, *finds: int) -> None:
        self.folder, self.finds, self.now, self.busy = folder, list(finds), 1e9, 0.0
        self.pace = self.started()

    def started(self, pinned: int = 0) -> DiskPace:
        return DiskPace(
            self.folder / "pace.json",
            self.folder,
            pinned=pinned,
            measure=self.measure,
            now=lambda: self.now,
            load=lambda: self.busy,
        )

    def measure(self, folder: Path) -> int:
        found = self.finds.pop(0)
        if not found:
            raise OSError("the disk is full")
        return found

    def after(self, seconds: float) -> int:
        """Return the pace after the upkeep at that time."""
        self.now += seconds
        self.pace.upkeep()
        for thread in threading.enumerate():
            if thread.name == "disk-pace":
                thread.join()
        return self.pace.bytes_per_second


def test_a_busy_moment_makes_the_pace_low_only_until_a_quiet_one(tmp_path: Path) -> None:
    device = Device(tmp_path, 10, 500, 300)
    device.pace.begin()
    assert device.pace.bytes_per_second == 10
    assert device.after(1) == 10, "too soon"
    device.busy = 1000
    assert device.after(disk_pace.SOON_SECONDS) == 10, "not while the device is busy"
    device.busy = 0
    assert device.after(1) == 500
    device.pace = device.started()
    device.pace.begin()
    assert device.pace.bytes_per_second == 500, "known after a restart"
    assert device.after(disk_pace.SOON_SECONDS) == 500, "a lower one changes nothing"
    assert device.after(disk_pace.SOON_SECONDS) == 500
    assert not device.finds, "and no more than these were taken"


def test_it_is_measured_once_a_day_and_a_slower_disk_is_known_in_the_end(tmp_path: Path) -> None:
    device = Device(tmp_path, 900, *[100] * disk_pace.KEPT)
    device.pace.begin()
    device.busy = 1000
    for _ in range(disk_pace.KEPT - 1):
        assert device.after(disk_pace.DAY_SECONDS) == 900
    assert device.after(disk_pace.DAY_SECONDS) == 100


def test_a_disk_that_is_full_is_measured_later(tmp_path: Path) -> None:
    device = Device(tmp_path, 0, 700)
    device.pace.begin()
    assert device.pace.bytes_per_second == 0
    assert device.after(disk_pace.SOON_SECONDS) == 700


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"measures": 3, "measured_at": 1}', '{"measures": ["x"]}'])
def test_a_file_that_says_something_else_is_measured_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "pace.json").write_text(text)
    device = Device(tmp_path, 700)
    device.pace.begin()
    assert device.pace.bytes_per_second == 700


def test_what_the_owner_pinned_counts_and_nothing_is_measured(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.pace = device.started(pinned=5)
    device.pace.begin()
    assert device.after(10 * disk_pace.DAY_SECONDS) == 5


@pytest.mark.docker
def test_a_real_agent_measures_again_a_day_later(agent: AgentProcess, portal: FakePortal) -> None:
    file = Home(agent.home).disk_pace
    known = json.loads(file.read_text())
    assert len(known["measures"]) == 1, "at the first start"
    agent.kill()
    file.write_text(json.dumps({"measures": [1], "measured_at": known["measured_at"] - disk_pace.DAY_SECONDS}))
    agent.start()
    portal.wait(lambda: len(json.loads(file.read_text())["measures"]) == 2, START_SECONDS, "a second measure")
    assert max(json.loads(file.read_text())["measures"]) > 1


def seconds_to_flush(container: str, folder: str) -> float:
    began = time.monotonic()
    code, text = inside(container, f"dd if=/dev/zero of={folder}/much bs=1M count={WRITTEN_MIB} conv=fsync")
    assert code == 0, text
    return time.monotonic() - began


def seconds_of_writes(container: str, folder: str) -> float:
    """How long so many writes of 4 kB take, each of which goes to the disk by itself."""
    began = time.monotonic()
    code, text = inside(container, f"dd if=/dev/zero of={folder}/small bs=4k count={WRITES} oflag=direct")
    assert code == 0, text
    return time.monotonic() - began


def wait_until_started_anew(portal: FakePortal, container: str) -> None:
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


def have_a_slow_disk(agent: AgentProcess) -> int:
    """Returns its bytes a second."""
    home, slow = Home(agent.home), disk_pace.LEAST_BYTES_PER_SECOND
    known = configuration.load(home)
    configuration.save(home, replace(known, flushed_bytes_per_second=slow))
    agent.kill()
    agent.start()
    return slow


@pytest.mark.docker
@pytest.mark.parametrize("folder", ["/data", "/www"], ids=["volume", "layer"])
def test_a_real_app_is_held_to_its_part_after_a_crash_too(agent: AgentProcess, portal: FakePortal, folder: str) -> None:
    slow = have_a_slow_disk(agent)
    serve = Image(reference=engine.image("httpd -f -p 8080 -h /www"))
    volume = "/data" if folder == "/data" else ""
    one = lease(workload(image=serve, volume_path=volume, disk_bytes=96 * MIB, cpu_millis=100))
    portal.want(one)
    portal.wait_for(one.lease_id, Observed.RUNNING, START_SECONDS)
    container = f"interchain-{one.lease_id}"
    least = WRITTEN_MIB * MIB / slow * 0.75
    least_of_writes = WRITES / disk_pace.LEAST_WRITES_PER_SECOND * 0.75
    assert seconds_to_flush(container, folder) > least
    assert seconds_of_writes(container, folder) > least_of_writes
    wait_until_started_anew(portal, container)
    assert seconds_to_flush(container, folder) > least, "its files may be offered by another device now"
    assert seconds_of_writes(container, folder) > least_of_writes
