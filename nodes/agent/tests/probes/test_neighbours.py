"""What abuses leave to others: the agent's beat, and a neighbour's pace. How much exactly is measured in bench/sandbox."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from nodes.agent import courier, protocol
from nodes.agent.tests.probes import pace
from nodes.agent.tests.probes.scene import Scene

pytestmark = pytest.mark.docker
LATE_SECONDS = 6.0  # beside the interval; a beat that is missed comes a whole interval later, and then another
LEAST_PACE = 0.35  # coarse, for machines that do much else at the same time
MEASURED_AT_MOST = 5  # times; an abuse that nothing holds back is seen each time
STORM_SECONDS = 0.9


def gaps(scene: Scene, path: str, began: float, ended: float) -> list[float]:
    """Return the seconds between one message of the agent and the next."""
    times = [began, *(at for at, asked in scene.portal.heard if asked == path and began < at < ended), ended]
    return [after - before for before, after in pairwise(times)]


def test_the_agent_misses_no_beat_and_a_neighbour_keeps_its_pace(scene: Scene) -> None:
    neighbour, abuser = scene.apps["neighbour"], scene.apps["baseline"]
    began, goodbyes = time.monotonic(), len(scene.portal.goodbyes)
    ratios = {}
    for storm in pace.STORMS:
        ratios[storm] = 0.0
        for _ in range(MEASURED_AT_MOST):
            measured = pace.measure(neighbour, abuser, storm, rounds=2, seconds=STORM_SECONDS)
            ratios[storm] = max(ratios[storm], measured.best_ratio("processor"))
            if ratios[storm] > LEAST_PACE:
                break
    ended = time.monotonic()
    desired = scene.portal.desired
    for path, interval in (
        (protocol.REPORT_PATH, courier.UNCHANGED_REPORTS * desired.report_interval_seconds),
        (protocol.DESIRED_PATH, desired.poll_interval_seconds),
        (protocol.READINGS_PATH, desired.reading_interval_seconds),
    ):
        assert max(gaps(scene, path, began, ended)) < interval + LATE_SECONDS, path
    assert scene.portal.linked
    assert len(scene.portal.goodbyes) == goodbyes, "the link never broke"
    assert not scene.portal.rejected
    assert all(ratio > LEAST_PACE for ratio in ratios.values()), ratios
