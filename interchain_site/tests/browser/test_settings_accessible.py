"""The account's settings, light and dark, on a phone and on a desk."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from interchain_site.testing.browser import (
    SCHEMES,
    WIDTHS,
    Site,
    assert_accessible,
    keep_screenshot,
    open_page,
    visitor,
)

PAGES = {
    "account_home": "/account/",
    "account_email": "/accounts/email/",
    "account_password": "/accounts/password/change/",
    "mfa": "/accounts/2fa/",
    "totp": "/accounts/2fa/totp/activate/",
    "logout": "/accounts/logout/",
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_settings_pages(browser: Browser, portal: Site, width: int, scheme: str):
    with visitor(browser, portal, person="buyer", width=width, scheme=scheme) as page:
        open_page(page, "/accounts/reauthenticate/")
        keep_screenshot(page, f"reauthenticate-{width}-{scheme}")
        assert_accessible(page)
        page.get_by_label("Password").fill("correct horse")
        page.get_by_role("button", name="Confirm").click()
        for name, path in PAGES.items():
            status = open_page(page, path)
            assert status == 200, f"{path}: {status}"
            keep_screenshot(page, f"{name}-{width}-{scheme}")
            assert_accessible(page)
