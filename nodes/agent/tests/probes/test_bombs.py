"""Each abuse of the table, from inside an app as the agent starts it: held where the table says, and the app's neighbours live."""

from __future__ import annotations

import pytest

from nodes.agent.tests.probes.bombs import BOMBS, GONE, Bomb, others_live
from nodes.agent.tests.probes.program import words
from nodes.agent.tests.probes.scene import Answer, Gone, Scene

pytestmark = pytest.mark.docker


@pytest.mark.parametrize("bomb", BOMBS, ids=[bomb.name for bomb in BOMBS])
def test_it_is_held(scene: Scene, bomb: Bomb) -> None:
    app = scene.apps[bomb.app]
    try:
        answer = app.ask(*words(bomb.line, **scene.values(bomb.app)), seconds=60)
    except Gone as error:
        answer = Answer(GONE, str(error))
    app.wait()
    assert answer.outcome in bomb.ends.split(), answer.text
    bomb.holds(scene, app, answer)
    others_live(scene, app, answer)
