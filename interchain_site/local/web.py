"""A person at a browser, without the browser: follows links, fills forms with their hidden fields, over plain HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx


class PageError(Exception):
    """A page is not what a person would expect there; the text says which and why."""


@dataclass
class Form:
    """A form of a page: where it goes and what it would send untouched."""

    action: str
    method: str = "get"
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    required: set[str] = field(default_factory=set)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self._open: Form | None = None
        self._select = self._textarea = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        at = {name: value or "" for name, value in attrs}
        if tag == "a" and "href" in at:
            self.links.append(at["href"])
        if tag == "form":
            self._open = Form(action=at.get("action", ""), method=at.get("method", "get").lower())
            self.forms.append(self._open)
        if self._open is not None:
            self._control(self._open, tag, at)

    def _control(self, form: Form, tag: str, at: dict[str, str]) -> None:
        name, kind = at.get("name", ""), at.get("type", "text").lower()
        if "required" in at and name:
            form.required.add(name)
        if tag == "button" or (tag == "input" and kind == "submit"):
            form.buttons.append((name, at.get("value", "")))
        elif tag == "input" and kind == "file":
            form.files.add(name)
        elif tag == "input" and name and (kind not in ("checkbox", "radio") or "checked" in at):
            form.fields[name] = at.get("value", "on" if kind == "checkbox" else "")
        elif tag == "select":
            self._select = name
            form.fields.setdefault(name, "")
        elif tag == "option" and self._select and ("selected" in at or not form.fields.get(self._select)):
            form.fields[self._select] = at.get("value", "")
        elif tag == "textarea":
            self._textarea = name
            form.fields[name] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        elif tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._textarea = ""

    def handle_data(self, data: str) -> None:
        if self._textarea and self._open is not None:
            self._open.fields[self._textarea] += data.removeprefix("\n")
        elif data.strip():
            self.words.append(" ".join(data.split()))


@dataclass(frozen=True)
class Page:
    """What came back, after redirects."""

    url: str
    status: int
    forms: list[Form]
    links: list[str]
    text: str
    html: str

    def form(self, *, action: str = "", having: str = "") -> Form:
        """Return the form whose action contains `action` and that has the field `having`.

        Raises:
            PageError: there is none.
        """
        for form in self.forms:
            names = {*form.fields, *form.files, *(name for name, _ in form.buttons)}
            if action in urljoin(self.url, form.action) and (not having or having in names):
                return form
        raise PageError(f"{self.url} has no form {action} {having}: {self.text[:400]}")

    def link(self, containing: str) -> str:
        """Return the first link containing a text.

        Raises:
            PageError: there is none.
        """
        for link in self.links:
            if containing in link:
                return urljoin(self.url, link)
        raise PageError(f"{self.url} has no link {containing}: {self.text[:400]}")


class Person:
    """One person's browser: cookies, the page, and an API token when they have one."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.http = httpx.Client(base_url=base, follow_redirects=True, timeout=60)
        self.token = ""

    def __enter__(self) -> Person:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def open(self, path: str) -> Page:
        """Open a page."""
        return self._page(self.http.get(urljoin(self.base, path)))

    def submit(self, page: Page, form: Form, values: Mapping[str, str] | None = None, files: Any = None) -> Page:
        """Send a form as a browser would."""
        data = {**form.fields, **(values or {})}
        headers = {"Referer": page.url, "Origin": str(httpx.URL(page.url).copy_with(raw_path=b"/")).rstrip("/")}
        target = urljoin(page.url, form.action)
        if form.method == "post":
            return self._page(self.http.post(target, data=data, files=files, headers=headers))
        return self._page(self.http.get(target, params=data, headers=headers))

    def api(self, method: str, path: str, body: Any = None, *, files: Any = None, data: Any = None) -> Any:
        """Call the REST API with this person's token and return its JSON.

        Raises:
            PageError: it answers with an error.
        """
        headers = {"Authorization": f"Token {self.token}"}
        answer = httpx.request(
            method, f"{self.base}/api/v1/{path}", json=body, files=files, data=data, headers=headers, timeout=120
        )
        if answer.status_code >= 400:
            raise PageError(f"{method} {path}: {answer.status_code} {answer.text[:600]}")
        return answer.json() if answer.content else None

    def _page(self, answer: httpx.Response) -> Page:
        reader = _Reader()
        reader.feed(answer.text)
        if answer.status_code >= 400:
            raise PageError(
                f"{answer.request.method} {answer.url}: {answer.status_code} {' '.join(reader.words)[:600]}"
            )
        return Page(
            str(answer.url), answer.status_code, reader.forms, reader.links, " ".join(reader.words), answer.text
        )


def pay(person: Person, address: str, *, card: str = "4242424242424242") -> Page:
    """Type a card into the Stripe stand-in's payment page; returns the page it leads to.

    Raises:
        PageError: there is no such page, or the card is declined.
    """
    page = person.open(address)
    card_form = page.form(having="number")
    after = person.submit(page, card_form, {"number": card, "expiry": "12 / 40", "cvc": "123", "name": "Demo"})
    if any("number" in form.fields for form in after.forms):
        raise PageError(f"The card was not accepted: {after.text[:300]}")
    return after
