"""A real site for a real browser: uvicorn on its own database, people already signed in, and what is checked on a page."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from cryptography.fernet import Fernet
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page

from interchain_site.testing.servers import free_port, running, valkey
from interchain_site.testing.stripe import WEBHOOK_SECRET, stand_in

ROOT = Path(__file__).resolve().parent.parent.parent
SCREENSHOTS = ROOT / "var" / "screenshots"
WIDTHS = (390, 1280)
SCHEMES = ("light", "dark")
LAUNCH_ARGUMENTS = ["--disable-dev-shm-usage", "--no-sandbox"]


@dataclass(frozen=True)
class Site:
    """A running portal.

    Attributes:
        url: its address, `http://localhost:<port>` (passkeys need the name, not the number).
        data: its data folder; messages it sent are files in `mail`.
        sessions: a session cookie for each of the cast.
        arguments: for each URL name that takes some, arguments that lead to a page with something on it.
        environment: the variables it runs with, for other programs of the same site.
    """

    url: str
    data: Path
    sessions: dict[str, str]
    arguments: dict[str, list[str]]
    environment: dict[str, str] = field(default_factory=dict)

    def newest_mail(self) -> str:
        """Return the newest message, as text."""
        files = sorted((self.data / "mail").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        return files[-1].read_text()

    def link_in_newest_mail(self) -> str:
        """Return the first address of this site in the newest message."""
        found = re.search(rf"{re.escape(self.url)}/\S+", self.newest_mail())
        if found is None:
            raise AssertionError(f"No link in:\n{self.newest_mail()}")
        return found.group()


def chromium() -> str:
    """Return the path of the headless Chromium.

    Raises:
        FileNotFoundError: it is not installed.
    """
    for name in ("chromium-headless-shell", "chromium", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise FileNotFoundError("No headless Chromium. Type: apt-get install chromium-headless-shell libatomic1")


@contextmanager
def site(data: Path, *, settings: dict[str, str] | None = None, people_only: bool = False) -> Iterator[Site]:
    """Run a portal with the cast and sample content until the block ends.

    Args:
        settings: environment variables this portal has different.
        people_only: leave the sample content out.
    """
    port = free_port()
    url = f"http://localhost:{port}"
    with valkey() as redis_url, stand_in(data / "stripe.sqlite3") as stripe:
        environment = {
            **os.environ,
            "DEBUG": "1",
            "INTERCHAIN_ENV_FILE": "/dev/null",
            "DATA_DIR": str(data),
            "DATABASE_URL": f"sqlite:///{data / 'db.sqlite3'}",
            "REDIS_URL": redis_url,
            "PORTAL_URL": url,
            "FIELD_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
            "STRIPE_API_BASE": stripe.url,
            "STRIPE_SECRET_KEY": "sk_test_tests",
            "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "LOG_LEVEL": "WARNING",
            **(settings or {}),
        }
        python = [sys.executable, "-W", "ignore"]
        subprocess.run([*python, "manage.py", "migrate", "-v0"], cwd=ROOT, env=environment, check=True)
        seeding = [*python, "-m", "interchain_site.testing.seed", *(["--people-only"] if people_only else [])]
        seeded = subprocess.run(seeding, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE).stdout
        command = [*python, "-m", "uvicorn", "interchain_site.asgi:application", "--port", str(port)]
        with running(command, port=port, log=data / "web.log", env=environment):
            yield Site(url=url, data=data, environment=environment, **json.loads(seeded))


@dataclass
class Watch:
    """What went wrong in a page while a test looked at it: script errors, blocked content, failed requests."""

    allowed: str = ""
    complaints: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"script error: {error}"))

    def _console(self, message: ConsoleMessage) -> None:
        # Chromium drops connections whenever Docker adds or removes an interface on this machine.
        if message.type == "error" and "ERR_NETWORK_CHANGED" not in message.text:
            if self.allowed and self.allowed in message.text:
                return
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")


@contextmanager
def visitor(
    browser: Browser,
    portal: Site,
    *,
    person: str | None = None,
    width: int = 1280,
    scheme: Any = "light",
    allowed: str = "",
) -> Iterator[Page]:
    """Yield a page of a fresh browser, signed in as one of the cast.

    Fails at the end on any error in the console, except those that contain `allowed`, e.g. a status the test asks for.
    """
    context: BrowserContext = browser.new_context(
        base_url=portal.url,
        viewport={"width": width, "height": 844 if width < 600 else 800},
        color_scheme=scheme,
        reduced_motion="reduce",
    )
    context.set_default_timeout(10_000)
    if person:
        context.add_cookies([{"name": "sessionid", "value": portal.sessions[person], "url": portal.url}])
    page = context.new_page()
    watch = Watch(allowed)
    watch.listen(page)
    try:
        yield page
        assert not watch.complaints, "\n".join(watch.complaints)
    finally:
        context.close()


def open_page(page: Page, path: str) -> int:
    """Open a page of the site and return its status; asks again when Docker moved the network meanwhile."""
    for attempt in range(5):
        try:
            answer = page.goto(path)
            return answer.status if answer else 0
        except Error as error:
            if "ERR_NETWORK_CHANGED" not in error.message or attempt == 4:
                raise
            page.wait_for_timeout(500)
    return 0


def assert_accessible(page: Page) -> None:
    """Fail on any violation axe knows, and when the page is wider than its window."""
    results = Axe().run(page)
    assert results.violations_count == 0, f"{page.url}\n{results.generate_report()}"
    wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wider <= 0, f"{page.url} is {wider} px wider than the window."


def keep_screenshot(page: Page, name: str) -> Path:
    """Keep a picture of the whole page as var/screenshots/<name>.png."""
    path = SCREENSHOTS / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path, full_page=True)
    return path
