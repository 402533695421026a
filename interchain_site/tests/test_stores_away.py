"""PostgreSQL and Redis away from a running site: the app goes on, is reached both ways, is metered, and is billed once.

`bench/portal_away` also takes the portal itself, and all of them, for ten minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interchain_site.local import smoke
from interchain_site.testing import outage
from interchain_site.testing.outage import Outage

pytestmark = pytest.mark.docker
# So few requests a second that a client's own, read twice from the access log, would be too many.
SETTINGS = {**smoke.QUICK, "DIRECTORY_INTERVAL_SECONDS": "2", "GATEWAY_CLIENT_REQUESTS_PER_SECOND": "10"}
AWAY_SECONDS = 5
SLACK_MS = 12_000  # a reading every two seconds and a health check every five, on a busy machine


@pytest.fixture(scope="module")
def used() -> Iterator[Outage]:
    with outage.running(SETTINGS) as found:
        yield found


@pytest.mark.parametrize("part", ["redis", "postgres"])
def test_the_app_goes_on_and_all_of_it_is_billed_once(used: Outage, part: str) -> None:
    outage.go_through(used, (part,), AWAY_SECONDS, slack_ms=SLACK_MS)


def test_the_bill_closes(used: Outage) -> None:
    paid = outage.close_the_bill(used)
    assert paid["owner"] > 0
