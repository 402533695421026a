"""Linking a bank at Stripe and cashing out, by hand: owner, bank and staff, each at their own pages."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, expect

from interchain_site.testing.browser import Site, assert_accessible, keep_screenshot, open_page, visitor


def look(page: Page, step: str) -> None:
    keep_screenshot(page, f"cash-out/{step}")
    assert_accessible(page)


def type_details(page: Page, number: str) -> None:
    page.get_by_label("Full name").fill("A Person")
    page.get_by_label("Date of birth").fill("1990-01-31")
    page.get_by_label("Last 4 of your ID number").fill("0000")
    page.get_by_label("Routing number").fill("110000000")
    page.get_by_label("Account number").fill(number)
    page.get_by_role("button", name="Agree and submit").click()


def try_next_step(browser: Browser, portal: Site, amount: str) -> None:
    """Have staff press the admin's button; this site runs no worker."""
    with visitor(browser, portal, person="staff") as page:
        open_page(page, "/admin/billing/cashout/")
        page.get_by_role("row").filter(has_text=amount).first.get_by_role("checkbox").check()
        page.locator("select[name=action]").select_option(label="Try the next step of the selected cash-outs now")
        page.get_by_role("button", name="Go").click()
        expect(page.locator(".messagelist .success")).to_have_count(1)


def test_linking_a_bank(browser: Browser, portal: Site):
    with visitor(browser, portal, person="buyer", width=390) as page:
        open_page(page, "/cash-out/")
        page.get_by_role("button", name="Link a bank at Stripe").click()
        page.wait_for_url(re.compile("/setup/"))
        look(page, "1-onboarding")
        page.get_by_role("button", name="Finish later").click()
        page.wait_for_url(re.compile("/cash-out/"))
        expect(page.get_by_text("Answer Stripe’s questions to be paid.")).to_be_visible()
        look(page, "2-finish-later")
        page.get_by_role("button", name="Go on at Stripe").click()
        type_details(page, "000123456789")
        page.wait_for_url(re.compile("/cash-out/"))
        expect(page.get_by_text("Ready")).to_be_visible()
        look(page, "3-linked")


def test_cashing_out_with_the_keyboard(browser: Browser, portal: Site):
    with visitor(browser, portal, person="owner") as page:
        open_page(page, "/earnings/")
        page.get_by_role("link", name="Cash out").click()
        page.get_by_label("Amount").press_sequentially("22")
        expect(page.locator("#price")).to_contain_text("$11.00")
        look(page, "4-price")
        page.get_by_label("Amount").press("Enter")
        page.wait_for_url(re.compile("/cash-out/[0-9a-f-]{36}/"))
        look(page, "5-confirm")
        code = re.search(r"code is (\d{6})", portal.newest_mail())
        assert code
        page.get_by_label("Code").fill(code[1])
        page.get_by_label("Code").press("Enter")
        expect(page.get_by_text("The dollars are being sent")).to_be_visible()
        look(page, "6-confirmed")
        try_next_step(browser, portal, "$11.00")
        expect(page.get_by_text("should be there by")).to_be_visible()
        look(page, "7-on-the-way")
        here = page.url
        page.goto("/cash-out/")
        page.get_by_role("button", name="Change the bank at Stripe").click()
        page.wait_for_url(re.compile("/express/"))
        expect(page.get_by_text("$11.00")).to_be_visible()
        look(page, "8-at-stripe")
        page.goto(re.sub(r"/express/.*", "/dashboard", page.url))
        page.get_by_role("region").filter(has_text="$11.00").get_by_role("button", name="Let it arrive").click()
        try_next_step(browser, portal, "$11.00")
        page.goto(here)
        expect(page.get_by_text("$11.00 reached your bank.")).to_be_visible()
        look(page, "9-paid")
