"""A site whose parts are taken away while an app runs: who could not reach the app meanwhile, and what was billed for it.

What is billed is held against what the kernel counted for the app's container and against the container's age, read from Docker,
never against what the agent says of itself.

Longer than 300 lines because the site, its clients and what it is held against are read together.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg

from interchain_site.local import images, journey
from interchain_site.local.postgres import Cluster
from interchain_site.local.programs import PYTHON
from interchain_site.local.site import Site, running_site
from interchain_site.local.steps import ROOT, command
from interchain_site.local.supervisor import Program
from interchain_site.local.web import Person
from interchain_site.testing.docker import docker
from interchain_site.testing.servers import free_port, wait_for_port

PORTAL = ("web", "worker", "chain worker", "beat")
PARTS = ("portal", "postgres", "redis")
PATIENCE_SECONDS = 120
SLUG = "steady"
SECOND = "second agent"
# Table 3, in USD for one base unit of each meter: written out here, so that what was charged is not held against itself.
TABLE_3 = {
    "transfer": Decimal("0.01") / 10**9,
    "storage": Decimal(1) / (10**9 * 86_400),
    "compute": Decimal("0.1") / 10**6,
    "uptime": Decimal("0.1") / 3_600_000,
    "active_user": Decimal("0.1"),
}
COMMISSION = Decimal("0.1")
VOLUME_OLDER_MS = 10_000  # it is made before its container
ROUNDING = Decimal("0.000001")  # NTC: each lease may be a few base units off for each price period


@dataclass
class Client:
    """Somebody who asks for the same page again and again."""

    name: str
    ask: Callable[[], httpx.Response]
    pause_seconds: float
    answered: int = 0
    failed: list[str] = field(default_factory=list)

    def work(self, ended: threading.Event) -> None:
        while not ended.wait(self.pause_seconds):
            try:
                answer = self.ask()
                answer.raise_for_status()
                self.answered += 1
            except httpx.HTTPError as error:
                self.failed.append(f"{datetime.now(UTC):%H:%M:%S} {self.name}: {error!r}"[:200])


@dataclass(frozen=True)
class Truth:
    """What Docker and the kernel say of the app's container."""

    container: str
    age_ms: int
    network_bytes: int
    held_bytes: int  # on its volume; nothing is written meanwhile


class Outage:
    """A running site on PostgreSQL with two devices and one app that is used all the time."""

    def __init__(self, site: Site, cluster: Cluster, publisher: Person, owner: Person) -> None:
        self.site, self.cluster, self.publisher, self.owner = site, cluster, publisher, owner
        self.clients: list[Client] = []
        self.ended = threading.Event()
        self.began = datetime.now(UTC)

    @contextmanager
    def without(self, *parts: str) -> Iterator[None]:
        """Take parts away, all at once, while the block lasts; what depends on them may fail as it likes."""
        down, stop = self.site.supervisor, {"postgres": lambda: self.cluster.stop("immediate")}
        names = [*(PORTAL if "portal" in parts else ()), *(["valkey"] if "redis" in parts else ())]
        work = [threading.Thread(target=down.pause, args=(name,)) for name in names]
        work += [threading.Thread(target=stop[part]) for part in parts if part in stop]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        try:
            yield
        finally:
            if "postgres" in parts:
                self.cluster.start()
            for name in ("valkey", *PORTAL):
                if name in names:
                    down.resume(name)

    def usage(self) -> dict[str, int]:
        """Return the total of each meter as the publisher's API tells it."""
        return journey.quantities(journey.usage(self.publisher, SLUG))

    def truth(self) -> Truth:
        """Return what the kernel and Docker counted for the app's one container."""
        found = docker("ps", "-q", "--no-trunc", "--filter", f"label=io.interchain.device={self.site.device_id()}")
        (container,) = [line for line in found.split() if _is_app(line)]
        inspected = json.loads(docker("inspect", container))[0]
        about, held = inspected["State"], _held_bytes(inspected["Mounts"][0]["Source"])
        started = datetime.fromisoformat(about["StartedAt"][:26].rstrip("Z") + "+00:00")
        lines = Path(f"/proc/{about['Pid']}/net/dev").read_text().splitlines()
        counts = [line.split(":")[1].split() for line in lines if line.strip().startswith("eth")]
        network = sum(int(row[0]) + int(row[8]) for row in counts)
        return Truth(container, int((datetime.now(UTC) - started).total_seconds() * 1000), network, held)

    def agents_words(self) -> str:
        """Return what both agents wrote last, for whoever reads why a test failed."""
        logs = [self.site.supervisor.log(name).read_text().splitlines()[-25:] for name in ("agent", SECOND)]
        return "\n".join(line for lines in logs for line in ["--", *lines])

    def users(self) -> int:
        """Return how many active users there can be: one client uses the gateway, once in each UTC month."""
        return len({f"{moment:%Y-%m}" for moment in (self.began, datetime.now(UTC))})

    def failures(self) -> list[str]:
        return [line for client in self.clients for line in client.failed]

    def ask_database(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.cluster.url) as database:
            return database.execute(sql).fetchall()

    def leases(self) -> list[tuple[Any, ...]]:
        """Return device, generation and state of every lease there ever was."""
        return self.ask_database("select device_id, generation, state from nodes_lease order by 2")

    def check_books(self) -> None:
        """Assert what must hold of the ledger at any moment."""
        of_currency = "select a.currency from billing_entry e join billing_account a on a.id = e.account_id"
        assert self.ask_database(f"{of_currency} group by e.transaction_id, a.currency having sum(e.amount) <> 0") == []
        differing = "select a.id from billing_account a left join billing_entry e on e.account_id = a.id group by a.id"
        assert self.ask_database(f"{differing} having a.balance <> coalesce(sum(e.amount), 0)") == []
        assert self.ask_database("select key from billing_transaction group by key having count(*) > 1") == []


def _held_bytes(volume: str) -> int:
    if os.path.ismount(volume):  # a file system of its own
        found = os.statvfs(volume)
        return (found.f_blocks - found.f_bfree) * found.f_frsize
    return sum(path.lstat().st_blocks * 512 for path in [Path(volume), *Path(volume).rglob("*")])


def _is_app(container: str) -> bool:
    return bool(docker("inspect", "-f", '{{index .Config.Labels "io.interchain.lease"}}', container))


@contextmanager
def running(settings: Mapping[str, str], *, usd: str = "9000", pause_seconds: float = 0.3) -> Iterator[Outage]:
    """Run the site, its two devices, its app and two clients of it until the block ends."""
    with tempfile.TemporaryDirectory(prefix="interchain-outage-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o711)  # PostgreSQL runs as another user
        archive = images.archive(images.WEBSITE, folder / "images")
        cluster = Cluster(folder / "postgres")
        cluster.start()
        try:
            with running_site(settings={**settings, "DATABASE_URL": cluster.url}) as site:
                publisher, owner = journey.sign_up(site, "publisher"), journey.sign_up(site, "owner")
                with publisher, owner:
                    journey.buy(publisher, usd)
                    journey.lend(site, owner)
                    made = Outage(site, cluster, publisher, owner)
                    journey.publish(publisher, images.WEBSITE, archive, SLUG)
                    journey.deploy(site, publisher, SLUG)
                    _lend_another(site, owner)
                    with _clients(made, folder, pause_seconds):
                        yield made
        finally:
            cluster.stop("immediate")


def _lend_another(site: Site, owner: Person) -> None:
    """Add a device that runs nothing: the peer whom the first asks whether the portal is gone for all."""
    said = owner.api("POST", "devices", {"name": "Peer", "region": "us"})["install_command"]
    token = re.findall(r"/install/([\w-]{20,})", said)[0]
    home = site.data / "second"
    words = [PYTHON, "-m", "nodes.agent", "enrol", "--portal", site.url, "--home", str(home), "--token", token]
    command([*words, "--endpoint-host", "127.0.0.1"], failure="The second device cannot be enrolled", env=site.env)
    site.supervisor.start([Program(SECOND, (PYTHON, "-m", "nodes.agent", "run", "--home", str(home)))])


@contextmanager
def _clients(outage: Outage, folder: Path, pause_seconds: float) -> Iterator[None]:
    site, port = outage.site, free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "connect"), "PYTHONUNBUFFERED": "1"}
    connect = [sys.executable, "-m", "interchain_connect"]
    trust = ["--trust", str(folder / "trust.json")]
    journey.until("Nodes in the trust file", lambda: len(_seeds(site)) >= 2, seconds=PATIENCE_SECONDS)
    subprocess.run([*connect, "trust", *trust, site.url], env=environment, check=True, capture_output=True)
    with (folder / "connect.log").open("wb") as log:
        process = subprocess.Popen(
            [*connect, "connect", *trust, SLUG, "--port", str(port)], env=environment, stdout=log, stderr=log
        )
        workers: list[threading.Thread] = []
        try:
            wait_for_port(port, PATIENCE_SECONDS)
            outage.clients = [
                Client("gateway", lambda: journey.visit(site, SLUG, "/style.css"), pause_seconds),
                Client("connect", lambda: httpx.get(f"http://127.0.0.1:{port}/style.css", timeout=30), pause_seconds),
            ]
            workers = [threading.Thread(target=client.work, args=(outage.ended,)) for client in outage.clients]
            for worker in workers:
                worker.start()
            yield
        finally:
            outage.ended.set()
            for worker in workers:
                worker.join()
            process.terminate()
            process.wait(10)


def _seeds(site: Site) -> list[str]:
    return list(httpx.get(f"{site.url}/directory/trust.json", timeout=10).json()["seeds"])


@dataclass(frozen=True)
class Result:
    """What an outage came to, for `bench/portal_away`."""

    parts: tuple[str, ...]
    seconds: float
    answered: int
    failed: int
    caught_up_seconds: float
    uptime_short_ms: int
    transfer_short_bytes: int


def go_through(outage: Outage, parts: tuple[str, ...], seconds: float, *, slack_ms: int) -> Result:
    """Take parts away for so long, and assert: everybody was answered, nothing was moved, all of it is billed and nothing twice.

    Args:
        slack_ms: how much of the newest uptime and how little more of the age of the container may be missing: readings' interval
            and the health checks' interval.
    """
    before, held, leases = outage.truth(), outage.usage(), outage.leases()
    behind_ms = before.age_ms - held["uptime"]
    answered, failed = sum(client.answered for client in outage.clients), len(outage.failures())
    with outage.without(*parts):
        time.sleep(seconds)
    during = outage.truth()
    began = time.monotonic()
    assert during.container == before.container, f"the app was started anew:\n{outage.agents_words()}"

    def caught_up() -> bool:
        now = outage.usage()
        used = now["uptime"] >= during.age_ms - behind_ms - slack_ms
        return used and now["transfer"] >= during.network_bytes

    journey.until(f"All of what was used without {parts} billed", caught_up, seconds=PATIENCE_SECONDS)
    caught_up_seconds, now, after = time.monotonic() - began, outage.usage(), outage.truth()
    assert now["uptime"] <= after.age_ms, "more uptime than the container is old"
    assert now["transfer"] <= after.network_bytes, "more bytes than the kernel counted"
    assert now["storage"] * 1000 <= after.held_bytes * (after.age_ms + VOLUME_OLDER_MS), "more than the volume holds"
    assert now["active_user"] <= outage.users(), "more users than there are"
    assert after.container == before.container, f"the app was started anew:\n{outage.agents_words()}"
    assert outage.leases() == leases, f"the app was moved or stopped:\n{outage.agents_words()}"
    outage.check_books()
    failures = outage.failures()[failed:]
    assert not failures, "\n".join(failures[:20])
    return Result(
        parts, seconds, sum(client.answered for client in outage.clients) - answered, len(failures),
        round(caught_up_seconds, 1), after.age_ms - now["uptime"], after.network_bytes - now["transfer"],
    )  # fmt: skip


def close_the_bill(outage: Outage) -> dict[str, Decimal]:
    """Delete the app and assert that what was paid is the price of what was used, and all of it somebody's.

    Returns:
        what the publisher paid, and what owner and platform got, in NTC.
    """
    from interchain_site.local import smoke

    outage.ended.set()
    smoke.delete(outage.publisher, SLUG, seconds=PATIENCE_SECONDS)
    used = smoke.settled_use(outage.publisher, SLUG)
    assert 0 < journey.quantities(used)["active_user"] <= outage.users()
    paid, to_owner, commission = (Decimal(used[name]) for name in ("total_ntc", "owner_ntc", "commission_ntc"))
    assert paid == to_owner + commission
    price = sum((TABLE_3[meter] * quantity for meter, quantity in journey.quantities(used).items()), Decimal(0))
    ((rate,),) = outage.ask_database("select rate from billing_deskrate order by starts_at desc, id desc limit 1")
    assert abs(to_owner - price / rate) < ROUNDING, f"{to_owner} NTC for what costs {price} USD at {rate}"
    assert abs(commission - to_owner * COMMISSION) < ROUNDING
    assert journey.earned(outage.owner) == to_owner
    outage.check_books()
    return {"paid": paid, "owner": to_owner, "commission": commission}
