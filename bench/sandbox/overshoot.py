"""How far an app gets beyond its writable layer before the agent stops it, on a device that cannot hold its layer to a size."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from nodes.agent import holdings
from nodes.agent.protocol import Action, Image, Observed, Reason
from nodes.agent.tests.conftest import lease, workload
from nodes.agent.tests.probes import program
from nodes.agent.tests.probes.scene import Scene

MB = 2**20
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Case:
    """An app and what it has made before it begins to write as fast as it can."""

    name: str
    allowed_bytes: int
    before: tuple[str, ...] = ()


CASES = (
    Case("nothing else", 32 * MB),
    Case("20,000 files", 64 * MB, ("empty-files", "/tmp", "20000")),
    Case("400,000 files", 512 * MB, ("empty-files", "/tmp", "400000")),
)


@dataclass(frozen=True)
class Overshoot:
    """What was measured."""

    allowed: int
    beyond: int  # bytes, counted as the agent counts
    seconds: float  # from the limit to its end


def measure(scene: Scene, case: Case) -> Overshoot:
    """Run an app without a volume, have it write as fast as it can, and look at its layer from outside until it has ended."""
    what = workload(
        image=Image(reference=program.image()), memory_bytes=192 * MB, cpu_millis=500, disk_bytes=case.allowed_bytes
    )
    wanted = lease(what)
    (app,) = scene.run(wanted)
    upper = Path(app.inspect("{{.GraphDriver.Data.UpperDir}}"))
    if case.before:
        app.ask(*case.before, seconds=PATIENCE_SECONDS)
        app.ask("is-root")
    already = held(upper)
    free = holdings.room(upper)
    process = Path(f"/proc/{app.pid}")
    app.ask("flood", "/www", "100000")
    passed = None
    until = time.monotonic() + PATIENCE_SECONDS
    while process.exists():
        assert time.monotonic() < until, "nobody stops it"
        # By the room that is left: looking at the layer would take as long as it takes the agent.
        if passed is None and already + free - holdings.room(upper) > case.allowed_bytes:
            passed = time.monotonic()
        time.sleep(0.005)
    ended = time.monotonic()
    beyond = held(upper) - case.allowed_bytes
    status = scene.portal.wait_for(wanted.lease_id, Observed.FAILED, 60)
    assert status.reason is Reason.OUT_OF_DISK, status.message
    kept = [one.lease for one in scene.apps.values()]
    scene.portal.want(*kept, replace(wanted, action=Action.WIPE))
    scene.portal.wait_for(wanted.lease_id, Observed.WIPED, 120)
    scene.portal.want(*kept)
    return Overshoot(case.allowed_bytes, beyond, ended - (passed or ended))


def held(upper: Path) -> int:
    found = holdings.by_folder(upper)
    return found.bytes + found.files * holdings.FILE_BYTES
