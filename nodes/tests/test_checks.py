"""System checks about devices that are cut off."""

from __future__ import annotations

import pytest
from django.core.checks import run_checks

from nodes.checks import check_self_stop


@pytest.mark.parametrize(
    ("self_stop", "link_timeout", "ids"),
    [
        (20, 30, []),  # the defaults
        (0, 30, []),  # never
        (5, 15, []),
        (21, 30, ["interchain.E040"]),  # the last app may end after the election
        (30, 30, ["interchain.E040"]),
        (60, 30, ["interchain.E040"]),
        (-1, 30, ["interchain.E040"]),
        (1, 10, ["interchain.E040"]),
    ],
)
def test_a_device_stops_itself_before_others_take_over(settings, self_stop, link_timeout, ids):
    settings.SELF_STOP_SECONDS, settings.LINK_TIMEOUT_SECONDS = self_stop, link_timeout
    found = check_self_stop()
    assert [message.id for message in found] == ids
    assert all("SELF_STOP_SECONDS" in message.hint for message in found)


def test_it_is_looked_at_at_every_start(settings):
    settings.SELF_STOP_SECONDS = settings.LINK_TIMEOUT_SECONDS
    assert "interchain.E040" in [message.id for message in run_checks(tags=["interchain"])]
