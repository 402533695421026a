"""Buying in the token sale in a real browser, on a real chain: from a wallet injected into the page, and by card."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from interchain_site.testing.anvil import Anvil
from interchain_site.testing.browser import ROOT, Site, assert_accessible, keep_screenshot, visitor
from interchain_site.testing.browser_wallet import BrowserWallet, chain_site

pytestmark = pytest.mark.anvil
WAIT = 60_000  # milliseconds, for what the chain does
MINT = "0x40c10f19"  # mint(address,uint256) of the local chain's stablecoin
SWEEP = """
from datetime import timedelta
from django.utils import timezone
from billing.services import sweeps
sweeps.sweep_payments(now=timezone.now() + timedelta(seconds=61))
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Anvil]]:
    with chain_site(tmp_path_factory.mktemp("sale")) as running:
        yield running


def open_sale(page: Page) -> None:
    """Open the sale page once the chain worker has deployed the contracts and read them."""
    page.goto("/sale/")
    for _ in range(60):
        if page.locator("form[data-wallet-flow]").count():
            return
        page.wait_for_timeout(1_000)
        page.reload()
    raise AssertionError(page.locator("main").inner_text())


def give_dollars(portal: Site, wallet: BrowserWallet) -> None:
    stablecoin = json.loads((portal.data / "deployments.json").read_text())["stablecoin"]
    data = f"{MINT}{wallet.address[2:].rjust(64, '0')}{10**12:064x}"
    wallet.node.ask("eth_sendTransaction", {"from": wallet.address, "to": stablecoin, "data": data})


def choose(page: Page, *, ntc: str, asset: str, destination: str, method: str = "") -> None:
    form = page.locator("form[data-wallet-flow]")
    form.get_by_label("NTC to buy").fill(ntc)
    form.get_by_role("radio", name=asset).check()
    form.get_by_role("radio", name=destination).check()
    if method:
        form.get_by_label("Allow the stablecoin by").select_option(method)
    expect(page.locator("#wallet-price")).to_contain_text("Gas comes on top")


def buy(page: Page, words: str) -> None:
    page.get_by_role("button", name="Buy with your wallet").click()
    page.wait_for_url(re.compile("/sale/purchases/"), timeout=WAIT)
    expect(page.get_by_text(words).first).to_be_visible(timeout=WAIT)
    assert_accessible(page)


@pytest.mark.parametrize("method", ["permit", "approve"])
def test_stablecoin_to_the_balance(browser: Browser, shop: tuple[Site, Anvil], method: str) -> None:
    portal, node = shop
    wallet = BrowserWallet(node, account=7, chain_id=1)  # the page has to switch it to our chain
    with visitor(browser, portal, person="buyer") as page:
        wallet.install(page.context)
        open_sale(page)
        give_dollars(portal, wallet)
        choose(page, ntc="100", asset="Stablecoin", destination="My Interchain balance", method=method)
        keep_screenshot(page, f"sale/1-{method}")
        buy(page, "100.00 NTC arrived in your Interchain balance")
        keep_screenshot(page, f"sale/2-{method}-delivered")
        methods = [name for name, _ in wallet.asked]
        assert methods.count("eth_sendTransaction") == (1 if method == "permit" else 2)
        assert ("eth_signTypedData_v4" in methods) == (method == "permit")


def test_ether_to_the_wallet(browser: Browser, shop: tuple[Site, Anvil]) -> None:
    portal, node = shop
    wallet = BrowserWallet(node, account=8)
    with visitor(browser, portal, person="owner") as page:
        wallet.install(page.context)
        open_sale(page)
        choose(page, ntc="50", asset="Ether (ETH)", destination="My wallet")
        expect(page.get_by_label("Most the ether price may move")).to_be_visible()
        expect(page.get_by_label("Allow the stablecoin by")).to_be_hidden()
        buy(page, "went to your wallet")
        page.get_by_role("link", name="Your purchases").first.click()
        expect(page.get_by_role("row").filter(has_text="ETH")).to_have_count(1)
        keep_screenshot(page, "sale/3-purchases")
        assert_accessible(page)


def test_a_person_who_says_no_buys_nothing(browser: Browser, shop: tuple[Site, Anvil]) -> None:
    portal, node = shop
    wallet = BrowserWallet(node, account=9, refuse={"eth_sendTransaction"})
    with visitor(browser, portal, person="stranger") as page:
        wallet.install(page.context)
        open_sale(page)
        choose(page, ntc="10", asset="Ether (ETH)", destination="My wallet")
        page.get_by_role("button", name="Buy with your wallet").click()
        expect(page.get_by_text("You did not agree in the wallet")).to_be_visible()
        page.goto("/sale/purchases/")
        expect(page.get_by_text("No purchase yet")).to_be_visible()


def test_by_card(browser: Browser, shop: tuple[Site, Anvil]) -> None:
    portal, _ = shop
    with visitor(browser, portal, person="owner") as page:
        open_sale(page)
        page.get_by_label("Amount").fill("25")
        expect(page.locator("#price")).to_contain_text("NTC for $25.00")
        page.get_by_role("button", name="Continue to payment").click()
        expect(page.get_by_text("round 1 of the token sale")).to_be_visible()
        page.get_by_role("button", name=re.compile("Pay .* by card")).click()
        page.get_by_label("Card number").fill("4242 4242 4242 4242")
        page.get_by_label("Expires").fill("12 / 40")
        page.get_by_label("Security code").fill("123")
        page.get_by_label("Name on card").fill("An Owner")
        page.get_by_role("button", name="Pay").click()
        page.wait_for_url(re.compile("/sale/purchases/"))
        command = [sys.executable, "-W", "ignore", "manage.py", "shell", "-c", SWEEP]  # no webhook reaches this portal
        subprocess.run(command, cwd=ROOT, env={**os.environ, **portal.environment}, check=True)
        expect(page.get_by_text("arrived in your Interchain balance")).to_be_visible(timeout=WAIT)
        keep_screenshot(page, "sale/4-card-delivered")
        assert_accessible(page)
