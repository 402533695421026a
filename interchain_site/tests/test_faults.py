"""Kill each process of a running site at a busy moment: no money, no reading and no job is lost.

One site serves all tests of this file, in order; the last one closes the books to the last base unit.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal

import httpx
import pytest

from interchain_site.local import images, journey, smoke
from interchain_site.local.journey import until
from interchain_site.local.site import Site, running_site
from interchain_site.local.web import PageError, Person, pay

pytestmark = pytest.mark.docker
SETTINGS = {**smoke.QUICK, "EPOCH_SECONDS": "5"}
PATIENCE_SECONDS = 120
EVERY_PROCESS = (
    "web",
    "worker",
    "chain worker",
    "beat",
    "agent",
    "valkey",
    "anvil",
    "gateway",
    "tunnel",
    "caddy",
    "stripe",
)


@dataclass
class Busy:
    """A site with an app that is visited all the time, and what its publisher's API said of it so far."""

    site: Site
    publisher: Person
    owner: Person
    archive: object
    slug: str = "busy"
    others: list[str] = field(default_factory=list)  # apps that ran beside it
    seen: list[dict[str, int]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def visit(self) -> None:
        while not self.ended.wait(0.3):
            try:
                journey.visit(self.site, self.slug, "/style.css")
            except httpx.HTTPError:
                continue  # the gateway is the one that is down

    def usage(self) -> dict:
        """Return the usage, checking on the way that no meter ever went back."""
        used = journey.usage(self.publisher, self.slug)
        now = {**journey.quantities(used), "charged": int(Decimal(used["total_ntc"]) * 10**9)}
        for before in self.seen[-1:]:
            assert all(now[meter] >= total for meter, total in before.items())
        self.seen.append(now)
        return used

    def charged(self) -> int:
        self.usage()
        return self.seen[-1]["charged"]


@pytest.fixture(scope="module")
def busy(tmp_path_factory) -> Iterator[Busy]:
    archive = images.archive(images.WEBSITE, tmp_path_factory.mktemp("images"))
    with running_site(settings=SETTINGS) as site:
        publisher, owner = journey.sign_up(site, "publisher"), journey.sign_up(site, "owner")
        with publisher, owner:
            journey.buy(publisher, "9000")
            journey.lend(site, owner)
            made = Busy(site, publisher, owner, archive)
            journey.publish(publisher, images.WEBSITE, archive, made.slug)
            journey.deploy(site, publisher, made.slug)
            visits = threading.Thread(target=made.visit)
            visits.start()
            yield made
            made.ended.set()
            visits.join()


def books(site: Site) -> None:
    """Assert what must hold of the ledger at any moment (read from the database itself)."""
    with closing(sqlite3.connect(f"file:{site.data / 'db.sqlite3'}?mode=ro", uri=True)) as database:

        def rows(sql: str) -> list:
            return database.execute(sql).fetchall()

        of_currency = (
            "select a.currency, sum(e.amount) from billing_entry e join billing_account a on a.id = e.account_id"
        )
        assert rows(f"{of_currency} group by e.transaction_id, a.currency having sum(e.amount) <> 0") == []
        differing = "select a.id from billing_account a left join billing_entry e on e.account_id = a.id group by a.id"
        assert rows(f"{differing} having a.balance <> coalesce(sum(e.amount), 0)") == []
        assert rows("select id from billing_account where balance < 0 and not may_be_negative") == []
        assert rows("select key from billing_transaction group by key having count(*) > 1") == []


@pytest.mark.parametrize("name", EVERY_PROCESS)
def test_killing_one_process_loses_nothing(busy: Busy, name: str):
    before, starts = busy.charged(), busy.site.supervisor.starts(name)
    busy.site.supervisor.kill(name)
    until(f"{name} started again", lambda: busy.site.supervisor.starts(name) > starts, seconds=PATIENCE_SECONDS)
    busy.site.supervisor.wait_ready(name)
    until(f"charging after {name} was killed", lambda: busy.charged() > before, seconds=PATIENCE_SECONDS)
    until(
        "the app still served", lambda: journey.visit(busy.site, busy.slug).status_code == 200, seconds=PATIENCE_SECONDS
    )
    books(busy.site)


def test_a_card_payment_is_credited_once_though_web_and_worker_die_under_it(busy: Busy):
    before = journey.available(busy.publisher)
    spent_before = busy.charged()
    quote = busy.publisher.api("POST", "quotes", {"usd": "100.00"})
    payment = busy.publisher.api("POST", f"quotes/{quote['id']}/checkout")
    try:
        with Person(busy.site.url) as card_holder:
            busy.site.supervisor.kill("worker")
            busy.site.supervisor.kill("web")
            pay(card_holder, payment["url"])
    except (httpx.HTTPError, PageError):
        pass  # the way back leads to the portal, which is down; the payment itself went through

    def credited() -> bool:
        return busy.publisher.api("GET", f"payments/{payment['id']}")["credited_at"] is not None

    until("The payment credited", credited, seconds=PATIENCE_SECONDS)
    time.sleep(5)  # time for a second delivery to do harm

    def adds_up() -> bool:
        now, spent = journey.available(busy.publisher), Decimal(busy.charged() - spent_before) / 10**9
        return now == before + Decimal(quote["ntc"]) - spent

    until("Balance = before + bought − charged", adds_up, seconds=30, every=0.1)
    books(busy.site)


def test_a_deployment_asked_for_while_queue_worker_and_agent_die_still_runs(busy: Busy):
    journey.publish(busy.publisher, images.WEBSITE, busy.archive, "second")
    busy.others.append("second")
    busy.publisher.api("POST", "apps/second/deployment", {})
    for name in ("agent", "valkey", "worker"):
        busy.site.supervisor.kill(name)
    until("second runs", lambda: journey.state(busy.publisher, "second") == "running", seconds=PATIENCE_SECONDS)
    until("second answers", lambda: journey.visit(busy.site, "second").status_code == 200, seconds=PATIENCE_SECONDS)
    smoke.delete(busy.publisher, "second", seconds=PATIENCE_SECONDS)
    books(busy.site)


def test_the_books_close_exactly(busy: Busy):
    """After all that: what the publisher paid = what the owner earned + commission = what Ethereum pays out."""
    from eth_account import Account

    busy.ended.set()
    smoke.delete(busy.publisher, busy.slug, seconds=PATIENCE_SECONDS)
    account = Account.create()
    smoke.link_wallet(busy.owner, account)
    for slug in (busy.slug, *busy.others):
        smoke.settled_use(busy.publisher, slug)
    used = until("Usage, earnings and payments agree", lambda: _agreed(busy), seconds=PATIENCE_SECONDS, every=1)
    owner, _ = _shares(used)
    assert all(
        abs(Decimal(row["commission_ntc"]) * 10 - Decimal(row["owner_ntc"])) <= 10 * smoke.SMALLEST for row in used
    )
    for name in ("chain worker", "anvil"):
        busy.site.supervisor.kill(name)
    smoke.until_claimable(busy.owner, seconds=PATIENCE_SECONDS)
    claim = busy.owner.api("POST", "claims", {"wallet": busy.owner.api("GET", "wallet")[0]["id"]})
    busy.site.supervisor.kill("chain worker")
    until("claimed", lambda: smoke.final_claim(busy.owner, claim["id"]), seconds=PATIENCE_SECONDS)
    assert smoke.token_balance(busy.site, account.address) == owner
    books(busy.site)


def _agreed(busy: Busy) -> list[dict] | None:
    """Return the usage of all apps if it is what the owner earned and the publisher paid, read while no charge was made between."""
    used = [journey.usage(busy.publisher, slug) for slug in (busy.slug, *busy.others)]
    owner, commission = _shares(used)
    return used if journey.earned(busy.owner) == owner and _spent(busy) == owner + commission else None


def _shares(used: list[dict]) -> tuple[Decimal, Decimal]:
    owner, commission = (
        sum((Decimal(row[name]) for row in used), Decimal(0)) for name in ("owner_ntc", "commission_ntc")
    )
    return owner, commission


def _spent(busy: Busy) -> Decimal:
    """Return what the publisher's statement says was bought minus what is left."""
    bought = sum(Decimal(row["ntc"]) for row in busy.publisher.api("GET", "payments") if row["credited_at"])
    return bought - journey.available(busy.publisher)
