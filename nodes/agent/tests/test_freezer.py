"""The freezer against the kernel's own: what is frozen takes no step, ends without one, and is let go however the agent ends."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent.freezer import Freezer
from nodes.agent.reconcile import Seen

pytestmark = pytest.mark.docker
LABEL = "io.interchain.test=freezer"
PATIENCE_SECONDS = 60


@pytest.fixture
def seen(docker_engine: None) -> Iterator[Seen]:
    """A container that counts in its log, under a cgroup of its lease's own where this Docker makes one."""
    lease_id = str(uuid.uuid4())
    parent = (
        [f"--cgroup-parent=/interchain/{lease_id}"]
        if engine.docker("info", "-f", "{{.CgroupDriver}}") == "cgroupfs"
        else []
    )
    image = engine.image("while :; do echo x; sleep 0.01; done")
    container = engine.docker("run", "-d", "--label", LABEL, *parent, image)
    pid = int(engine.docker("inspect", "-f", "{{.State.Pid}}", container))
    yield Seen(lease_id, 1, "workload", container, running=True, pid=pid)
    Freezer().thaw_left([Seen(lease_id, 1, "workload", container, running=True, pid=pid)])
    engine.remove_labelled(LABEL)
    for folder in Path("/sys/fs/cgroup").glob(f"**/interchain/{lease_id}"):
        folder.rmdir()


def lines(seen: Seen) -> int:
    return len(engine.docker("logs", seen.container_id).splitlines())


def wait_still(freezer: Freezer, seen: Seen) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not freezer.is_still(seen.lease_id):
        assert time.monotonic() < until, "it does not stand still"
        time.sleep(0.01)


def goes_on(seen: Seen) -> None:
    before, until = lines(seen), time.monotonic() + PATIENCE_SECONDS
    while lines(seen) == before:
        assert time.monotonic() < until, "it does not go on"
        time.sleep(0.05)


def test_what_is_frozen_takes_no_step_and_goes_on_when_thawed(seen: Seen) -> None:
    freezer, began = Freezer(), time.monotonic()
    assert not freezer.stood_still_since(seen.lease_id, 0)
    assert freezer.freeze(seen)
    wait_still(freezer, seen)
    time.sleep(0.3)  # what it wrote before is with Docker by then
    before = lines(seen)
    time.sleep(0.3)
    assert lines(seen) == before
    assert freezer.stood_still_since(seen.lease_id, time.monotonic() + 100), "it does now"
    assert 0.6 <= freezer.thaw(seen.lease_id) <= time.monotonic() - began
    goes_on(seen)
    assert freezer.stood_still_since(seen.lease_id, began)
    assert not freezer.stood_still_since(seen.lease_id, time.monotonic())
    assert freezer.thaw(seen.lease_id) == 0


def test_it_is_killed_while_it_stands_still(seen: Seen) -> None:
    freezer = Freezer()
    assert freezer.freeze(seen)
    wait_still(freezer, seen)
    freezer.kill(seen.lease_id)
    assert engine.docker("wait", seen.container_id) == "137"


def test_what_somebody_else_froze_stays_frozen(seen: Seen) -> None:
    first, second = Freezer(), Freezer()
    assert first.freeze(seen)
    assert not second.freeze(seen)
    second.thaw(seen.lease_id)
    second.kill(seen.lease_id)
    wait_still(first, seen)
    first.thaw(seen.lease_id)
    goes_on(seen)


def test_an_agent_that_ends_leaves_nothing_frozen_and_freezes_nothing_more(seen: Seen) -> None:
    freezer = Freezer()
    assert freezer.freeze(seen)
    freezer.close()
    goes_on(seen)
    assert not freezer.freeze(seen)


def test_what_a_killed_agent_left_is_thawed(seen: Seen) -> None:
    assert Freezer().freeze(seen)
    Freezer().thaw_left([seen])
    goes_on(seen)


def test_who_has_no_cgroup_is_not_frozen() -> None:
    assert not Freezer().freeze(Seen("no-such-lease", 1, "workload", "c" * 64, running=True, pid=1))
