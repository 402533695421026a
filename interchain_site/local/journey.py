"""What people do with Interchain, over its public HTTP interfaces only: the steps that smoke and fault tests share."""

from __future__ import annotations

import email
import email.policy
import re
import secrets
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import httpx

from interchain_site.local.images import DemoApp
from interchain_site.local.site import Site
from interchain_site.local.web import PageError, Person, pay

T = TypeVar("T")
PASSWORD = "correct horse battery staple"
INSTALL = re.compile(r"/install/([\w-]{20,})")
LINK = re.compile(r"https?://\S+/accounts/confirm-email/\S+")


class Wrong(Exception):
    """A step did not come to what it promises; the text says what was expected and what was found."""


def check(true: bool, wrong: str) -> None:
    """Go on only if it is true.

    Raises:
        Wrong: it is not.
    """
    if not true:
        raise Wrong(wrong)


def until(what: str, ask: Callable[[], T | None], *, seconds: float = 60, every: float = 0.25) -> T:
    """Ask again until there is an answer.

    Raises:
        Wrong: there is none in time; the last refusal is told.
    """
    give_up_at, problem = time.monotonic() + seconds, ""
    while time.monotonic() < give_up_at:
        try:
            answer = ask()
            if answer:
                return answer
        except (PageError, httpx.HTTPError) as error:
            problem = f" ({error})"
        time.sleep(every)
    raise Wrong(f"{what}: not within {seconds:g} s{problem}")


def sign_up(site: Site, name: str) -> Person:
    """Sign up, follow the link in the verification mail, log in, make an API token."""
    person, address = Person(site.url), f"{name}-{secrets.token_hex(3)}@example.com"
    page = person.open("/accounts/signup/")
    fields = {"email": address, "password1": PASSWORD, "password2": PASSWORD}
    person.submit(page, page.form(having="password2"), fields)
    page = person.open(until("The verification mail", lambda: confirmation_link(site.mail, address)))
    person.submit(page, page.form(action="confirm-email"))
    page = person.open("/accounts/login/")
    if any("password" in form.fields for form in page.forms):
        person.submit(page, page.form(having="password"), {"login": address, "password": PASSWORD})
    person.token = new_token(person)
    return person


def confirmation_link(mail: Path, address: str) -> str | None:
    """Return the link in the mail to this address, once it is there."""
    for file in sorted(mail.glob("*")) if mail.exists() else []:
        message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
        body = message.get_body(("plain",))
        if body is not None and address in str(message["to"]):
            found = LINK.search(str(body.get_content()))
            if found:
                return found.group(0)
    return None


def new_token(person: Person) -> str:
    """Make an API token on its page and read it there, as a person would."""
    page = person.open("/api-token/")
    form = next(form for form in page.forms if "api-token" in form.action or form.action in ("", "/api-token/"))
    shown = person.submit(page, form)
    found = re.search(r"\b[0-9a-f]{40}\b", shown.html)
    check(found is not None, f"The token page shows no token: {shown.text[:300]}")
    assert found is not None
    return found.group(0)


def buy(person: Person, usd: str) -> Decimal:
    """Buy NTC with a card on the payment page; returns what arrived in the balance."""
    before = available(person)
    page = person.open("/buy/")
    page = person.submit(page, page.form(having="amount"), {"amount": usd, "unit": "usd"})
    quote = next(form for form in page.forms if "/buy/" in (form.action or page.url) and form.method == "post")
    page = person.submit(page, quote)
    check(any("number" in form.fields for form in page.forms), f"No payment page after the quote: {page.url}")
    pay(person, page.url)
    return until("The paid NTC", lambda: available(person) - before)


def available(person: Person) -> Decimal:
    """Return what the person can spend, in NTC."""
    return Decimal(person.api("GET", "balance")["available"])


def lend(site: Site, owner: Person) -> str:
    """Register a device on its page, enrol this machine with the token in its command, start the agent; returns its id."""
    page = owner.open("/devices/new/")
    page = owner.submit(page, page.form(having="name"), {"name": "Smoke", "region": "us"})
    found = INSTALL.search(page.html)
    check(found is not None, f"The device's page shows no command: {page.text[:300]}")
    assert found is not None
    site.enrol_agent(found.group(1))
    site.start_agents()
    device = page.url.rstrip("/").rsplit("/", 1)[1]
    until("The device online", lambda: owner.api("GET", f"devices/{device}")["state"] == "online")
    return device


def publish(publisher: Person, app: DemoApp, archive: Path, slug: str) -> None:
    """Register an app and upload its `docker save` archive as a release."""
    publisher.api("POST", "apps", {"name": slug, "slug": slug})
    fields = {
        "port": app.port,
        "memory_bytes": app.memory_bytes,
        "cpu_millis": app.cpu_millis,
        "disk_bytes": app.disk_bytes,
        "health_kind": app.health,
        "health_path": app.health_path,
        "volume_path": app.volume_path,
        "profile": "restricted",
    }
    with archive.open("rb") as file:
        publisher.api("POST", f"apps/{slug}/releases", data=fields, files={"archive": (archive.name, file)})


def deploy(site: Site, publisher: Person, slug: str) -> float:
    """Deploy an app; returns the seconds until it answers 200 through the gateway."""
    began = time.monotonic()
    publisher.api("POST", f"apps/{slug}/deployment", {})
    until("The app behind the gateway", lambda: visit(site, slug).status_code == 200, every=0.05, seconds=120)
    return time.monotonic() - began


def visit(site: Site, slug: str, path: str = "/") -> httpx.Response:
    """Fetch a page of an app through the gateway (its names need no DNS here)."""
    host = f"{slug}.{site.values['GATEWAY_DOMAIN']}"
    return httpx.get(f"http://127.0.0.1:{site.ports.gateway}{path}", headers={"Host": host}, timeout=30)


def usage(publisher: Person, slug: str) -> dict[str, Any]:
    """Return what an app used and cost so far."""
    return dict(publisher.api("GET", f"apps/{slug}/usage"))


def quantities(used: dict[str, Any]) -> dict[str, int]:
    """Return the quantity of each meter of a usage answer."""
    return {row["meter"]: int(row["quantity"]) for row in used["meters"]}


def earned(owner: Person) -> Decimal:
    """Return everything the owner ever earned and still has in Interchain's books, in NTC."""
    found = owner.api("GET", "balance")
    parts = ("earnings_held", "earnings_available", "settled")
    return sum((Decimal(found[part]) for part in parts), Decimal(0))


def state(publisher: Person, slug: str) -> str:
    """Return the state of an app's deployment."""
    return str(publisher.api("GET", f"apps/{slug}/deployment")["state"])
