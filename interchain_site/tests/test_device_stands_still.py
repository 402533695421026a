"""A device whose agent stands still (SIGSTOP) in a whole site: for a moment nothing happens; for longer its link is given up, it is asked for, one
other is elected, once, its stale copy ends when it goes on, and nobody pays for both.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from interchain_site.local import images, journey, smoke
from interchain_site.local.journey import until
from interchain_site.local.site import DEVICES, Site, running_site
from interchain_site.local.web import Person
from interchain_site.testing.docker import docker

pytestmark = pytest.mark.docker
SETTINGS = {**smoke.QUICK, "LINK_RETURN_SECONDS": "2"}
PATIENCE_SECONDS = 120
A_MOMENT_SECONDS = 4  # less than half of LINK_TIMEOUT_SECONDS, 30 by default
BOTH_SECONDS = 5  # so long two copies run: what both would bill shows in readings of every two seconds
PLAIN = replace(images.WEBSITE, volume_path="")  # an app with data would wait for its device
SLUG = "steady"


@dataclass
class Cloud:
    """A site with two devices, one of which runs the app."""

    site: Site
    publisher: Person

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.site.data / 'db.sqlite3'}?mode=ro", uri=True)) as database:
            return database.execute(sql, values).fetchall()

    def leases(self) -> list[tuple[Any, ...]]:
        """Return id, device and state of every lease of the app, oldest first."""
        return self.rows("select id, device_id, state from nodes_lease order by generation")

    def failovers(self) -> list[tuple[Any, ...]]:
        """Return the lost and the new lease of every failover, with its outcome."""
        return self.rows("select lost_lease_id, new_lease_id, outcome from nodes_failover order by noticed_at")

    def agent_of(self, device: str) -> int:
        """Return the process of the agent of a device, which the database names without dashes."""
        name = next(one for one in self.site.devices() if self.site.device_id(one).replace("-", "") == device)
        return self.site.supervisor.pids()[DEVICES[name]]

    def answers(self) -> bool:
        return journey.visit(self.site, SLUG).status_code == 200


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    archive = images.archive(images.WEBSITE, tmp_path_factory.mktemp("images"))
    with running_site(settings=SETTINGS) as site:
        made = json.loads(site.manage("seed_demo", "people", "devices", "balance").splitlines()[-1])
        tokens = {row["role"]: row["token"] for row in made["people"]}
        for name, token in zip(("first", "second"), made["devices"].values(), strict=False):
            site.enrol_agent(token, name)
        site.start_agents()
        with Person(site.url) as publisher:
            publisher.token = tokens["publisher"]
            found = Cloud(site, publisher)
            online = "select count(*) from nodes_device where state = 'online'"
            until("Two devices online", lambda: found.rows(online)[0][0] == 2, seconds=PATIENCE_SECONDS)
            journey.publish(publisher, PLAIN, archive, SLUG)
            journey.deploy(site, publisher, SLUG)
            metered = "select count(*) from nodes_metertotal where meter = 'uptime' and total > 0"
            until("It is metered", lambda: found.rows(metered)[0][0], seconds=PATIENCE_SECONDS)
            yield found


@contextmanager
def standing_still(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def copies(lease: str) -> str:
    dashed = "-".join((lease[:8], lease[8:12], lease[12:16], lease[16:20], lease[20:]))
    return docker("ps", "-q", "--filter", f"label=io.interchain.lease={dashed}")


def heard(cloud: Cloud, device: str, since: datetime, readings: int) -> bool:
    """Whether so many batches of readings came from a device since."""
    count = "select count(*) from nodes_readingbatch where device_id = ? and received_at > ?"
    return bool(cloud.rows(count, device, f"{since:%Y-%m-%d %H:%M:%S.%f}")[0][0] >= readings)


def test_for_a_moment_nothing_happens(cloud: Cloud) -> None:
    before = cloud.leases()
    ((lease, device, _),) = before
    container = copies(lease)
    with standing_still(cloud.agent_of(device)):
        time.sleep(A_MOMENT_SECONDS)
        assert cloud.answers()
    since = datetime.now(UTC)
    until("It is metered again", lambda: heard(cloud, device, since, 2), seconds=PATIENCE_SECONDS)
    assert (cloud.leases(), cloud.failovers(), copies(lease)) == (before, [], container)


def test_for_longer_one_other_is_elected_once_and_nobody_pays_for_both(cloud: Cloud) -> None:
    ((old, device, _),) = cloud.leases()
    with standing_still(cloud.agent_of(device)):
        until("Another runs it", lambda: [row for row in cloud.failovers() if row[2] == "replaced"], seconds=PATIENCE_SECONDS)  # fmt: skip
        assert copies(old), "nobody could tell it to stop"
        time.sleep(BOTH_SECONDS)
    since = datetime.now(UTC)
    until("The stale copy stopped", lambda: not copies(old), seconds=PATIENCE_SECONDS)
    until("Its late readings are in", lambda: heard(cloud, device, since, 2), seconds=PATIENCE_SECONDS)
    until("The portal knows", lambda: cloud.leases()[0][2] == "stopped", seconds=PATIENCE_SECONDS)
    assert "link_suspected" in cloud.site.supervisor.log("web").read_text(), (
        "its link was given up, and it was asked for"
    )
    (_, (new, elsewhere, state)) = cloud.leases()
    assert (state, cloud.failovers()) == ("running", [(old, new, "replaced")]), "one election"
    assert elsewhere != device
    assert copies(new)
    assert cloud.answers()
    check_that_one_is_billed(cloud, old)


def check_that_one_is_billed(cloud: Cloud, old: str) -> None:
    """Hold the stale copy's uptime against the time until another took its place, and the bill against all totals."""
    until_fenced = "(julianday(fenced_at) - julianday(running_at)) * 86400000"
    ((total, most),) = cloud.rows(
        f"select t.total, {until_fenced} from nodes_lease l join nodes_metertotal t on t.lease_id = l.id "
        "where l.id = ? and t.meter = 'uptime'", old
    )  # fmt: skip
    assert 0 < total <= most, "it is not paid for what it ran after another had taken its place"
    since = "select (julianday('now') - julianday(min(opened_at))) * 86400000 from nodes_lease"
    used = journey.quantities(journey.usage(cloud.publisher, SLUG))["uptime"]
    assert total <= used <= cloud.rows(since)[0][0]
