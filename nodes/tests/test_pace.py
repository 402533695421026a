"""What counts as too many requests, and what is read too late to say anything."""

from __future__ import annotations

import time

import pytest

from nodes.gateway.pace import LATE_SECONDS, Asked, Pace

LIMIT, AT_ONCE = 20, 100


@pytest.mark.parametrize(("seconds_ago", "refused"), [(0.0, True), (LATE_SECONDS + 1, False)])
def test_what_is_read_after_an_outage_refuses_nobody(settings, seconds_ago, refused):
    settings.GATEWAY_CLIENT_REQUESTS_PER_SECOND = LIMIT
    pace, at = Pace(), time.time() - seconds_ago
    pace.count({("w", "192.0.2.1"): Asked(AT_ONCE, at, at)})
    assert bool(pace.refused()) is refused
