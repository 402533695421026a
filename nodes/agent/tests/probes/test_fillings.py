"""Each way of filling the disk, from inside an app of its own: held or stopped as the table says, and nothing of it is left after a wipe."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import courier, protocol
from nodes.agent.protocol import Action, Observed, Reason
from nodes.agent.tests import leftovers
from nodes.agent.tests.probes.fillings import DISK_BYTES, FILLINGS, Filling
from nodes.agent.tests.probes.scene import App, Gone, Scene, own_lease

pytestmark = pytest.mark.docker
STOP_SECONDS, WIPE_SECONDS = 60, 60
LATE_SECONDS = 6.0


@pytest.mark.parametrize("filling", FILLINGS, ids=[filling.name for filling in FILLINGS])
def test_it_ends(scene: Scene, filling: Filling) -> None:
    began = time.monotonic()
    (app,) = scene.run(own_lease(disk_bytes=DISK_BYTES))
    upper = app.inspect("{{.GraphDriver.Data.UpperDir}}")
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
            status = scene.portal.wait_for(app.lease.lease_id, Observed.FAILED, STOP_SECONDS)
            assert status.reason is Reason.OUT_OF_DISK, status.message
        assert scene.apps["neighbour"].ask("is-root").text
    finally:
        wipe(scene, app)
    assert not Path(upper).exists()
    times = [
        began,
        *(at for at, path in scene.portal.heard if path == protocol.REPORT_PATH and at > began),
        time.monotonic(),
    ]
    usual = courier.UNCHANGED_REPORTS * scene.portal.desired.report_interval_seconds
    assert max(after - before for before, after in pairwise(times)) < usual + LATE_SECONDS, "it missed a beat"


def wipe(scene: Scene, app: App) -> None:
    """Have all of it removed, and see that it is."""
    scene.portal.want(*(kept.lease for kept in scene.apps.values()), replace(app.lease, action=Action.WIPE))
    scene.portal.wait_for(app.lease.lease_id, Observed.WIPED, WIPE_SECONDS)
    scene.portal.want(*(kept.lease for kept in scene.apps.values()))
    assert leftovers.of_volumes(app.lease.workload.id) == []
