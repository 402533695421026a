"""The probes can succeed: each does, or gets further, in the same container without the lock it is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nodes.agent.tests.probes import weakened
from nodes.agent.tests.probes.program import words
from nodes.agent.tests.probes.scene import Scene
from nodes.agent.tests.probes.table import ESCAPES
from nodes.agent.tests.probes.weakened import UNBOUNDED, WEAKENINGS, Weakening

pytestmark = pytest.mark.docker
MODULES = Path("/proc/modules")
BY_NAME = {probe.name: probe for probe in ESCAPES}


@pytest.mark.parametrize("weakening", WEAKENINGS, ids=[weakening.name for weakening in WEAKENINGS])
def test_the_probe_sees_it(scene: Scene, weakening: Weakening) -> None:
    values = scene.values("baseline")
    names = [name for name in weakening.probes if MODULES.exists() or not name.startswith("module")]  # a kernel without
    lines = {name: words(BY_NAME[name].line, **values) for name in names}
    with weakened.container(weakened.arguments_for(weakening, scene)) as made:
        found = weakened.outcomes(made, *lines.values())
    for name, line in lines.items():
        assert found[" ".join(line)] not in BY_NAME[name].refused.split(), f"{name} is refused all the same"


@pytest.mark.parametrize("unbounded", UNBOUNDED, ids=[name for name, _, _ in UNBOUNDED])
def test_the_bomb_goes_off(scene: Scene, unbounded: "tuple[str, Callable[..., None], str]") -> None:
    name, take_off, line = unbounded
    for without, expected in ((lambda arguments, scene: None, False), (take_off, True)):
        made = weakened.arguments_for(Weakening(name, without, ()), scene)
        with weakened.container(made) as container:
            (outcome,) = weakened.outcomes(container, line.split()).values()
        assert (outcome == "done") is expected, f"{line}: {outcome}"


def test_packets_that_nobody_answers_are_seen_outside(scene: Scene) -> None:
    values, arrived = scene.values("baseline"), len(scene.listeners.arrived)
    names = ("device by UDP", "LAN by UDP", "metadata by UDP", "name directly")
    with weakened.container(weakened.arguments_for(WEAKENINGS[-1], scene)) as made:
        weakened.outcomes(made, *(words(BY_NAME[name].line, **values) for name in names))
    labels = [label for label, _ in scene.listeners.arrived[arrived:]]
    assert labels.count("far udp") == 3
    assert "device udp" in labels
