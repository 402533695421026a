"""Each way of filling the disk, from inside an app of its own: held or stopped as the table says, and nothing of it is left after a wipe."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import courier, protocol
from nodes.agent.protocol import Action, DesiredLease, Observed, Reason
from nodes.agent.tests import leftovers
from nodes.agent.tests.conftest import running_agent
from nodes.agent.tests.probes.fillings import DISK_BYTES, FILLINGS, WATCHED, Filling
from nodes.agent.tests.probes.scene import START_SECONDS, UNSEEING, App, Gone, NotingPortal, Scene, own_lease

pytestmark = pytest.mark.docker
STOP_SECONDS, WIPE_SECONDS = 60, 60
LATE_SECONDS = 6.0


@pytest.mark.parametrize("filling", FILLINGS, ids=[filling.name for filling in FILLINGS])
def test_it_ends(scene: Scene, filling: Filling) -> None:
    ends(scene.portal, list(scene.apps.values()), filling)


@pytest.mark.parametrize("filling", WATCHED, ids=[filling.name for filling in WATCHED])
def test_it_is_stopped_where_the_layer_is_only_looked_at(unseeing: NotingPortal, filling: Filling) -> None:
    ends(unseeing, [], filling)


@pytest.fixture(scope="module")
def unseeing(tmp_path_factory: pytest.TempPathFactory, docker_engine: None) -> Iterator[NotingPortal]:
    with NotingPortal() as portal, running_agent(portal, tmp_path_factory.mktemp("unseeing"), UNSEEING):
        yield portal


def ends(portal: NotingPortal, beside: "list[App]", filling: Filling) -> None:
    """Run an app of its own beside others, and have it try."""
    began = time.monotonic()
    kept = [other.lease for other in beside]
    wanted = own_lease(disk_bytes=DISK_BYTES)
    portal.want(*kept, wanted)
    app = App(wanted, portal.wait_for(wanted.lease_id, Observed.RUNNING, START_SECONDS).host_port)
    upper = app.upper
    assert os.path.lexists(upper)
    try:
        if filling.ends:
            answer = app.ask(*filling.line.split(), seconds=90)
            assert answer.outcome in filling.ends.split(), answer.text
            filling.holds(app)
            time.sleep(1.0)
            assert engine.docker("inspect", "-f", "{{.State.Running}}", app.container) == "true", (
                "it is the app's to deal with"
            )
        else:
            with suppress(Gone):
                app.ask(*filling.line.split(), seconds=90)
            status = portal.wait_for(app.lease.lease_id, Observed.FAILED, STOP_SECONDS)
            assert status.reason is Reason.OUT_OF_DISK, status.message
        assert all(other.ask("is-root").text for other in beside)
    finally:
        wipe(portal, kept, app)
    assert not os.path.lexists(upper)
    times = [
        began,
        *(at for at, path in portal.heard if path == protocol.REPORT_PATH and at > began),
        time.monotonic(),
    ]
    usual = courier.UNCHANGED_REPORTS * portal.desired.report_interval_seconds
    assert max(after - before for before, after in pairwise(times)) < usual + LATE_SECONDS, "it missed a beat"


def wipe(portal: NotingPortal, kept: "list[DesiredLease]", app: App) -> None:
    """Have all of it removed, and see that it is."""
    portal.want(*kept, replace(app.lease, action=Action.WIPE))
    portal.wait_for(app.lease.lease_id, Observed.WIPED, WIPE_SECONDS)
    portal.want(*kept)
    assert leftovers.of_volumes(app.lease.workload.id) == []
    assert leftovers.of_volumes(app.lease.lease_id) == []
