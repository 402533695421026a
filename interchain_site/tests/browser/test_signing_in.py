"""Signing up, in, and with a passkey, as a person does it: in a browser, with the messages the site really sent."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, expect

from interchain_site.testing.browser import Site, assert_accessible, keep_screenshot, visitor
from interchain_site.tests.browser.steps import confirm, sign_in, sign_out, sign_up

CAST_PASSWORD = "correct horse"
REFUSING_DEVICE = """() => {
    navigator.credentials.get = () => Promise.reject(new DOMException('no', 'NotAllowedError'));
}"""


def plug_in_a_passkey_device(page: Page) -> None:
    """Give the browser a virtual authenticator that says yes to everything."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
    options |= {"isUserVerified": True, "automaticPresenceSimulation": True}
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def test_sign_up_confirm_and_sign_in(browser: Browser, portal: Site):
    with visitor(browser, portal, width=390) as page:
        sign_up(page, "fresh@example.com")
        confirm(page, portal.link_in_newest_mail())
        sign_in(page, "fresh@example.com")


def test_register_a_passkey_and_sign_in_with_it(browser: Browser, portal: Site):
    with visitor(browser, portal) as page:
        plug_in_a_passkey_device(page)
        sign_in(page, "stranger@example.com", CAST_PASSWORD)
        page.goto("/accounts/2fa/webauthn/add/")
        page.get_by_label("Password").fill(CAST_PASSWORD)
        page.get_by_role("button", name="Confirm").click()
        page.get_by_label("Name").fill("My phone")
        page.get_by_label("Passwordless").check()
        keep_screenshot(page, "passkeys/add-1280-light")
        assert_accessible(page)
        page.get_by_role("button", name="Add", exact=True).click()
        page.wait_for_url(lambda address: "/add/" not in address)
        page.goto("/accounts/2fa/webauthn/")
        expect(page.get_by_role("rowheader", name="My phone")).to_be_visible()
        keep_screenshot(page, "passkeys/list-1280-light")
        assert_accessible(page)

        sign_out(page)
        page.goto("/accounts/login/")
        page.get_by_role("button", name="Sign in with a passkey").click()
        page.wait_for_url(re.compile("/apps/"))


def test_a_refused_passkey_says_what_to_do(browser: Browser, portal: Site):
    with visitor(browser, portal) as page:
        page.goto("/accounts/login/")
        page.evaluate(REFUSING_DEVICE)
        page.get_by_role("button", name="Sign in with a passkey").click()
        expect(page.get_by_role("alert")).to_contain_text("take another way")
        assert_accessible(page)
