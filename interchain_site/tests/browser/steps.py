"""What a person does in a browser, step by step; used by more than one journey."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

PASSWORD = "correct horse battery"


def sign_up(page: Page, email: str) -> None:
    """Fill the sign-up form from the landing page on; the verification mail is on its way afterwards."""
    page.goto("/")
    page.get_by_role("link", name="Sign up").click()
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password (again)").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", name="Check your e-mail")).to_be_visible()


def confirm(page: Page, link: str) -> None:
    """Open the link of the verification mail and say yes."""
    page.goto(link)
    page.get_by_role("button", name="Yes, confirm").click()
    expect(page.get_by_role("heading", name="Confirm your e-mail")).to_have_count(0)


def sign_in(page: Page, email: str, password: str = PASSWORD) -> None:
    """Sign in with the password; ends on the apps page."""
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(re.compile("/apps/"))


def sign_out(page: Page) -> None:
    """Sign out by the account menu."""
    page.goto("/account/")
    page.locator("details.menu > summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in").first).to_be_visible()
