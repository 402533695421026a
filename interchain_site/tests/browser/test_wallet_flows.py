"""A wallet in the browser, on a real chain: link it, withdraw to it, deposit from it, turn a request down."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from interchain_site.testing.anvil import Anvil
from interchain_site.testing.browser import Site, assert_accessible, keep_screenshot, visitor
from interchain_site.testing.browser_wallet import BrowserWallet, chain_site

pytestmark = pytest.mark.anvil
WAIT = 60_000  # milliseconds, for what the chain does


@pytest.fixture(scope="module")
def chain_portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Anvil]]:
    with chain_site(tmp_path_factory.mktemp("portal")) as running:
        yield running


def look(page: Page, step: str) -> None:
    keep_screenshot(page, f"wallet/{step}")
    assert_accessible(page)


def code_in_mail(portal: Site) -> str:
    """Return the code of the newest e-mail that has one; it may take a moment to arrive."""
    for _ in range(50):
        for file in sorted((portal.data / "mail").glob("*"), key=lambda path: -path.stat().st_mtime_ns):
            found = re.search(r"^\s+(\d{6})$", file.read_text(), re.MULTILINE)
            if found:
                return found.group(1)
        time.sleep(0.2)
    raise AssertionError("No code was sent.")


def test_link_withdraw_and_deposit(browser: Browser, chain_portal: tuple[Site, Anvil]) -> None:
    portal, node = chain_portal
    wallet = BrowserWallet(node, account=7, chain_id=1)  # the page has to switch it to our chain
    with visitor(browser, portal, person="publisher") as page:
        wallet.install(page.context)
        link(page, wallet)
        withdraw(page, portal, wallet)
        deposit(page, wallet)


def link(page: Page, wallet: BrowserWallet) -> None:
    page.goto("/wallet/")
    look(page, "1-unlinked")
    page.get_by_role("button", name="Connect and sign").click()
    expect(page.get_by_text("Signed with its key")).to_be_visible()
    expect(page.locator("main")).to_contain_text(re.compile(wallet.address, re.IGNORECASE))
    assert wallet.chain_id == 31337
    [text] = [bytes.fromhex(given[0][2:]).decode() for method, given in wallet.asked if method == "personal_sign"]
    assert " wants you to sign in with your Ethereum account:\n" in text
    look(page, "2-linked")


def withdraw(page: Page, portal: Site, wallet: BrowserWallet) -> None:
    page.goto("/withdraw/")
    for _ in range(60):  # the desk's stock has to arrive first
        if "100.00 NTC" in page.locator("main").inner_text():
            break
        page.wait_for_timeout(1_000)
        page.reload()
    look(page, "3-withdraw")
    page.get_by_label("Amount in NTC").fill("40")
    page.get_by_role("button", name="Withdraw", exact=True).click()
    look(page, "4-code")
    page.get_by_label("Code").fill(code_in_mail(portal))
    page.get_by_role("button", name="Confirm the withdrawal").click()
    expect(page.locator("#withdrawal-status").get_by_text("Paid", exact=True).first).to_be_visible(timeout=WAIT)
    expect(page.get_by_role("button", name="Cancel the withdrawal")).to_have_count(0)
    look(page, "5-paid")


def deposit(page: Page, wallet: BrowserWallet) -> None:
    page.goto("/deposit/")
    page.get_by_label("Amount in NTC").fill("15")
    look(page, "6-deposit")
    wallet.refuse = {"eth_signTypedData_v4"}
    page.get_by_role("button", name="Deposit", exact=True).click()
    expect(page.get_by_text("You did not agree in the wallet. Nothing was sent.")).to_be_visible()
    wallet.refuse = set()
    page.get_by_role("button", name="Deposit", exact=True).click()
    expect(page.get_by_text("Credited")).to_be_visible(timeout=WAIT)
    expect(page.locator("#deposits")).to_contain_text("75.00 NTC")
    look(page, "7-credited")
    sent = [given[0] for method, given in wallet.asked if method == "eth_sendTransaction"]
    assert len(sent) == 1  # one transaction, thanks to the permit
