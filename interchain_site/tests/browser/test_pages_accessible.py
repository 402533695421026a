"""Every page, as the people who may see it: opens, no console error, nothing axe objects to, no sideways scrolling."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from interchain_site.testing.browser import SCHEMES, WIDTHS, Site, assert_accessible, keep_screenshot, visitor

VISITOR_PAGES = {
    "landing": "/",
    "login": "/accounts/login/",
    "signup": "/accounts/signup/",
    "password_reset": "/accounts/password/reset/",
    "password_reset_done": "/accounts/password/reset/done/",
    "verification_sent": "/accounts/confirm-email/",
    "email_confirm": "/accounts/confirm-email/nonsense/",
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_visitor_pages(browser: Browser, portal: Site, width: int, scheme: str):
    with visitor(browser, portal, width=width, scheme=scheme) as page:
        for name, path in VISITOR_PAGES.items():
            answer = page.goto(path)
            assert answer.status == 200, f"{path}: {answer.status}"
            keep_screenshot(page, f"{name}-{width}-{scheme}")
            assert_accessible(page)
