"""Every page, as each person: opens, no console error, nothing axe objects to, no sideways scrolling, light and dark."""

from __future__ import annotations

from itertools import product

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, Page

from interchain_site.testing.browser import (
    SCHEMES,
    WIDTHS,
    Site,
    assert_accessible,
    keep_screenshot,
    open_page,
    visitor,
)
from interchain_site.tests.browser.named_pages import EVERYBODY, OF_EVERYBODY, OF_ONE, OTHER, names

LOOKS = list(product(WIDTHS, SCHEMES))
VISITOR_PAGES = {
    "landing": "/",
    "reserves": "/reserves/",
    "status": "/status/",
    "login": "/accounts/login/",
    "signup": "/accounts/signup/",
    "password_reset": "/accounts/password/reset/",
    "password_reset_done": "/accounts/password/reset/done/",
    "verification_sent": "/accounts/confirm-email/",
    "email_confirm": "/accounts/confirm-email/nonsense/",
}


def look_at(page: Page, path: str, picture: str) -> None:
    status = open_page(page, path)
    assert status == 200, f"{path}: {status}"
    keep_screenshot(page, picture)
    assert_accessible(page)


def test_no_name_is_forgotten():
    listed = {*OF_ONE, *OF_EVERYBODY, *OTHER}
    assert names() == listed, f"not listed: {names() - listed}; not there: {listed - names()}"


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_visitor_pages(browser: Browser, portal: Site, width: int, scheme: str):
    with visitor(browser, portal, width=width, scheme=scheme) as page:
        for name, path in VISITOR_PAGES.items():
            look_at(page, path, f"visitor/{name}-{width}-{scheme}")


# Whose pages differ most is looked at in all four ways, the others in two.
EVERY_LOOK = [(person, *look) for person in EVERYBODY for look in (LOOKS if person in OF_ONE.values() else LOOKS[1:3])]


@pytest.mark.parametrize(("person", "width", "scheme"), EVERY_LOOK)
def test_pages_of_everybody(browser: Browser, portal: Site, person: str, width: int, scheme: str):
    with visitor(browser, portal, person=person, width=width, scheme=scheme) as page:
        for name in OF_EVERYBODY:
            path = reverse(name, args=portal.arguments.get(name, []))
            look_at(page, path, f"{person}/{name}-{width}-{scheme}")


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_pages_of_one_person(browser: Browser, portal: Site, width: int, scheme: str):
    for name, person in OF_ONE.items():
        with visitor(browser, portal, person=person, width=width, scheme=scheme) as page:
            look_at(page, reverse(name, args=portal.arguments[name]), f"{person}/{name}-{width}-{scheme}")


@pytest.mark.parametrize("name", sorted(OF_ONE))
def test_a_stranger_sees_nothing_of_anybodys(browser: Browser, portal: Site, name: str):
    with visitor(browser, portal, person="stranger", allowed="404") as page:
        assert open_page(page, reverse(name, args=portal.arguments[name])) == 404
