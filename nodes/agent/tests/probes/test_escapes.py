"""Each escape of the table, tried from inside an app as the agent starts it: refused, and the device as it was."""

from __future__ import annotations

import pytest

from nodes.agent.tests.probes.facts import FACTS
from nodes.agent.tests.probes.program import words
from nodes.agent.tests.probes.scene import Scene
from nodes.agent.tests.probes.table import ESCAPES, Probe

pytestmark = pytest.mark.docker
CASES = [(probe, app) for probe in ESCAPES for app in probe.apps]


@pytest.mark.parametrize(("probe", "name"), CASES, ids=[f"{probe.name}-{app}" for probe, app in CASES])
def test_it_is_refused(scene: Scene, probe: Probe, name: str) -> None:
    app, fact = scene.apps[name], FACTS.get(probe.same)
    before = fact(scene, app) if fact else None
    answer = app.ask(*words(probe.line, **scene.values(name)))
    assert answer.outcome in probe.refused.split(), answer.text
    if fact:
        assert fact(scene, app) == before, f"{probe.same} changed"


def test_what_is_open_can_be_used(scene: Scene) -> None:
    """Else silence would prove nothing: what an app with outbound traffic may reach, it reaches."""
    values = scene.values("outbound")
    for line in ("tcp {public} 80", "tcp {public} 587", "ping {public}"):
        answer = scene.apps["outbound"].ask(*words(line, **values))
        assert answer.outcome == "done", answer.text
    scene.apps["outbound"].ask(*words("udp {public} 53", **values))
    assert scene.listeners.seen("far udp")
