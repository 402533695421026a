"""An agent killed in the middle of copying an app's data: afterwards the data is whole, in plain and in encrypted volumes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import encryption_trial, sandbox, volume_files
from nodes.agent.engine import Engine
from nodes.agent.protocol import Action, DesiredLease, Observed, Restore, SnapshotReport
from nodes.agent.tests.conftest import AgentProcess
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.test_encryption import key, next_of, stopped
from nodes.agent.tests.test_sandbox_holds import inside
from nodes.agent.tests.test_volumes import MB, image_of, running, with_volume

pytestmark = [pytest.mark.docker, pytest.mark.one_agent]
FILES = 12  # of 4 MB: more than restic fetches or sends at once
WRITE = f"for i in $(seq {FILES}); do dd if=/dev/urandom of=/data/$i bs=1M count=4 2>/dev/null; done; echo marked-text > /data/text; sync"
SUMS = "cd /data && md5sum * | sort"


@pytest.fixture(params=["plain", "encrypted"])
def app(request: pytest.FixtureRequest, portal: FakePortal) -> DesiredLease:
    wanted = with_volume(disk_bytes=96 * MB)
    if request.param == "plain":
        return wanted
    root = Path(engine.docker("info", "-f", "{{.DockerRootDir}}")) / volume_files.FOLDER
    if why := encryption_trial.why_not(root, Engine("unix:///var/run/docker.sock")):
        pytest.skip(f"data cannot be encrypted here: {why}")
    return replace(wanted, volume_key=key())


@pytest.fixture(autouse=True)
def _released(portal: FakePortal) -> Iterator[None]:
    yield
    portal.repositories.release()


def copying(wanted: DesiredLease) -> bool:
    """Whether a restic works on this app's repository, whoever started it."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if b"RESTIC_REPOSITORY" in (held := path.read_bytes()) and wanted.workload.id.encode() in held:
                return True
    return False


def killed_while_it_copies(agent: AgentProcess, portal: FakePortal, wanted: DesiredLease) -> None:
    """Kill the agent once restic waits in the middle of its work; it does not outlive the agent."""
    portal.wait(lambda: portal.repositories.waiting, 60, "restic is in the middle")
    assert copying(wanted)
    agent.kill()
    portal.wait(lambda: not copying(wanted), 10, "restic ends with the agent")
    portal.repositories.release()


def snapshot_of(portal: FakePortal, wanted: DesiredLease) -> SnapshotReport:
    """Return what the agent says of the copy the portal asked for."""
    told: list[SnapshotReport] = portal.wait(
        lambda: [one for one in portal.snapshots if one.snapshot_id == wanted.snapshot_id], 90, "the copy's report"
    )
    return told[-1]


def test_what_a_killed_agent_was_copying_is_whole_afterwards(
    agent: AgentProcess, portal: FakePortal, app: DesiredLease
) -> None:
    container = running(portal, app)
    assert inside(container, WRITE)[0] == 0
    written = inside(container, SUMS)[1]

    # A copy is broken off: nothing is told of it, the app does not notice, and it is made again.
    portal.repositories.hold(after=1)
    asked = replace(app, snapshot_id=str(uuid.uuid4()))
    portal.want(asked)
    killed_while_it_copies(agent, portal, app)
    assert not [name for name in portal.repositories.files if name.startswith(f"{app.workload.id}/snapshots/")]
    agent.start()
    copy = snapshot_of(portal, asked)
    assert copy.restic_id, copy.message
    assert copy.volume_bytes >= FILES * 4 * MB
    assert inside(container, SUMS)[1] == written

    # The data goes, and comes back from the snapshot; that too is broken off.
    stopped(portal, app)
    again = next_of(app, restore=Restore(asked.snapshot_id, copy.restic_id))
    portal.want(replace(app, action=Action.WIPE))
    portal.wait_for(app.lease_id, Observed.WIPED)
    portal.repositories.hold(after=1)
    portal.want(again)
    killed_while_it_copies(agent, portal, app)
    assert not engine.docker("ps", "-q", "--filter", f"label=io.interchain.lease={again.lease_id}"), (
        "no app on half of it"
    )
    agent.start()
    portal.wait_for(again.lease_id, Observed.RUNNING, 90)
    container = sandbox.container_name(again.lease_id)
    assert inside(container, SUMS)[1] == written

    # It was brought once: what the app writes since stays through the next restart of the agent.
    assert inside(container, "echo since > /data/text && sync")[0] == 0
    agent.kill()
    agent.start()
    portal.wait_for(again.lease_id, Observed.RUNNING)
    assert inside(container, "cat /data/text") == (0, "since\n")
    if app.volume_key:
        on_disk = image_of(portal, again).read_bytes()
        assert b"since\n" not in on_disk
        assert b"marked-text" not in on_disk
    portal.want(replace(again, action=Action.WIPE))
    portal.wait_for(again.lease_id, Observed.WIPED)
