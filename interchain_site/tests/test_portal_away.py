"""The portal, PostgreSQL, Redis and all three away: the app goes on, is reached both ways, is metered, and is billed once.

The portal is away for longer than a device that is cut off goes on (`SELF_STOP_SECONDS`, 20), and than the portal waits for a device
(`LINK_TIMEOUT_SECONDS`, 30). `bench/portal_away` has ten minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interchain_site.local import smoke
from interchain_site.testing import outage
from interchain_site.testing.outage import PARTS, Outage

pytestmark = pytest.mark.docker
SETTINGS = {**smoke.QUICK, "DIRECTORY_INTERVAL_SECONDS": "2"}
LONGER_THAN_BOTH_SECONDS = 35
SLACK_MS = 12_000  # a reading every two seconds and a health check every five, on a busy machine


@pytest.fixture(scope="module")
def used() -> Iterator[Outage]:
    with outage.running(SETTINGS) as found:
        yield found


@pytest.mark.parametrize(
    ("parts", "seconds"),
    [
        (("redis",), 5),
        (("postgres",), 5),
        (("portal",), LONGER_THAN_BOTH_SECONDS),
        (PARTS, 5),
    ],
    ids=["redis", "postgres", "portal", "all"],
)
def test_the_app_goes_on_and_all_of_it_is_billed_once(used: Outage, parts: tuple[str, ...], seconds: float) -> None:
    outage.go_through(used, parts, seconds, slack_ms=SLACK_MS)


def test_the_bill_closes(used: Outage) -> None:
    paid = outage.close_the_bill(used)
    assert paid["owner"] > 0
