"""The admin works under the site's content policy: no list and no form of it complains in the console."""

from __future__ import annotations

from playwright.sync_api import Browser

from interchain_site.testing.browser import Site, keep_screenshot, open_page, visitor


def test_no_admin_page_breaks_the_content_policy(browser: Browser, portal: Site):
    with visitor(browser, portal, person="staff") as page:
        open_page(page, "/admin/")
        keep_screenshot(page, "admin/index")
        links = page.locator("#content-main a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
        assert len(links) > 10
        for path in sorted(set(links)):
            assert open_page(page, path) == 200, path
        keep_screenshot(page, "admin/last")
