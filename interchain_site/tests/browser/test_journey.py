"""The whole main job, by hand, on a whole running site: buy, lend, deploy, open, pay, earn, settle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from interchain_site.local import images
from interchain_site.local.journey import confirmation_link, until
from interchain_site.local.site import Site, running_site
from interchain_site.local.smoke import QUICK
from interchain_site.testing.browser import assert_accessible, keep_screenshot, visitor
from interchain_site.tests.browser.steps import confirm, sign_in, sign_up

pytestmark = [pytest.mark.docker, pytest.mark.anvil]
WALLET = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"  # the second of Anvil's well-known development accounts
WAIT = 60_000  # milliseconds, for what happens outside the browser
APP = images.WEBSITE


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(settings=QUICK) as whole_site:
        yield whole_site


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images.archive(APP, tmp_path_factory.mktemp("images"))


def look(page: Page, step: str) -> None:
    keep_screenshot(page, f"journey/{step}")
    assert_accessible(page)


def register(page: Page, site: Site, email: str) -> None:
    sign_up(page, email)
    confirm(page, until("The verification mail", lambda: confirmation_link(site.mail, email)))
    sign_in(page, email)


def buy(page: Page, dollars: str) -> None:
    page.get_by_role("link", name="Buy NTC").first.click()
    page.get_by_label("Amount").fill(dollars)
    page.get_by_role("button", name="Lock this price").click()
    look(page, "1-price")
    page.get_by_role("button", name=re.compile("Pay .* by card")).click()
    page.get_by_label("Card number").fill("4242 4242 4242 4242")
    page.get_by_label("Expires").fill("12 / 40")
    page.get_by_label("Security code").fill("123")
    page.get_by_label("Name on card").fill("A Publisher")
    page.get_by_role("button", name="Pay").click()
    expect(page.get_by_text("arrived in your balance")).to_be_visible(timeout=WAIT)
    look(page, "2-paid")


def lend(page: Page, site: Site) -> None:
    page.get_by_role("link", name="Devices").first.click()
    page.get_by_role("link", name="Add your first device").click()
    page.get_by_label("Name").fill("Study PC")
    page.get_by_role("button", name="Get the command").click()
    look(page, "3-command")
    command = page.locator("[data-copy] code").first.inner_text()
    site.enrol_agent(re.search(r"/install/([\w-]{20,})", command).group(1))
    site.start_agents()
    expect(page.get_by_text("Online").first).to_be_visible(timeout=WAIT)
    look(page, "4-online")


def publish(page: Page, archive: Path) -> None:
    page.get_by_role("link", name="Apps").first.click()
    page.get_by_role("link", name="Register your first app").click()
    page.get_by_label("Name").fill("Harbour Café")
    page.get_by_label("Address").fill("harbour")
    page.get_by_role("button", name="Register").click()
    page.get_by_label("Or upload an image").set_input_files(archive)
    page.get_by_label("Port").fill(str(APP.port))
    page.get_by_label("Memory, MB").fill(str(APP.memory_bytes // 10**6))
    page.get_by_label("Disk, MB").fill(str(APP.disk_bytes // 10**6))
    page.get_by_label("Data folder").fill(APP.volume_path)
    page.get_by_role("button", name="Add the release").click()
    expect(page.get_by_text("Release 1 is added.")).to_be_visible(timeout=WAIT)


def deploy(page: Page) -> None:
    look(page, "5-estimate")
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.get_by_text("Running", exact=True).first).to_be_visible(timeout=WAIT)
    look(page, "6-running")


def open_app(page: Page) -> None:
    """Follow the app's address in a second tab, which is the app's own page and not ours."""
    tab = page.context.new_page()
    address = page.locator("#app-url").get_attribute("href")
    until("The app behind the gateway", lambda: tab.goto(address).status == 200)
    expect(tab.get_by_text("Harbour").first).to_be_visible()
    keep_screenshot(tab, "journey/7-the-app")
    tab.close()


def figure(page: Page, label: str) -> Decimal:
    """Return the amount on the card of that label."""
    value = page.locator(".stat", has=page.get_by_text(label, exact=True)).locator(".stat-value")
    return Decimal(re.search(r"[\d,.]+", value.get_attribute("title")).group().replace(",", ""))


def rises(page: Page, label: str, above: Decimal = Decimal(0), reload: bool = False) -> Decimal:
    """Wait until the figure is above what it was; returns it."""

    def ask() -> Decimal | None:
        if reload:
            page.reload()
        now = figure(page, label)
        return now if now > above else None

    return until(f"{label} above {above}", ask, every=1)


def link_wallet(page: Page) -> None:
    page.goto("/wallet/")
    page.get_by_label("Ethereum address").fill(WALLET)
    page.get_by_role("button", name="Check this address").click()
    look(page, "9-wallet")
    page.locator("main form button[type=submit]").first.click()
    expect(page.get_by_text(WALLET).first).to_be_visible()


def find_settlement(page: Page) -> str:
    """Wait for the first final epoch in which somebody earned; returns its transaction's hash from its own page."""
    page.goto("/settlements/")
    earned = page.locator("td[data-label='Earned']", has_not_text=re.compile(r"\b0\.00 NTC"))
    final = page.get_by_role("row").filter(has_text="Final").filter(has=earned)
    until("A final settlement", lambda: page.reload() and final.count(), every=1, seconds=90)
    look(page, "10-settlements")
    final.last.get_by_role("link").first.click()
    look(page, "11-settlement")
    found = re.search(r"0x[0-9a-f]{64}", page.locator("dt:text-is('Transaction') + dd").inner_text())
    return found.group() if found else ""


def test_the_main_job(browser: Browser, running: Site, archive: Path):
    with visitor(browser, running) as publisher, visitor(browser, running) as owner:
        register(publisher, running, "publisher@example.org")
        buy(publisher, "5000")
        register(owner, running, "owner@example.org")
        lend(owner, running)
        publish(publisher, archive)
        deploy(publisher)
        open_app(publisher)
        first = rises(publisher, "Cost so far")
        assert rises(publisher, "Cost so far", above=first) > first
        look(publisher, "8-cost")
        link_wallet(owner)
        owner.goto("/earnings/")
        until(
            "Earnings", lambda: owner.reload() and any(figure(owner, part) for part in ("In hold", "Free", "Settled"))
        )
        look(owner, "12-earnings")
        assert len(find_settlement(owner)) == 66
