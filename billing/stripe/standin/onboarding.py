"""The pages an owner sees at Stripe: the onboarding, where test details are typed, and the Express dashboard."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from django.template import Context
from django.template import Engine as Templates
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from billing.stripe.standin import banks, forms
from billing.stripe.standin.moves import Moves
from billing.stripe.standin.store import Object

SESSION_SECONDS = 3600


class Onboarding:
    """Pages over the rules of Connect. `People` has set up the template language."""

    def __init__(self, moves: Moves) -> None:
        self.moves, self.store = moves, moves.store
        self.templates = Templates(dirs=[str(Path(__file__).parent / "pages")])

    def routes(self) -> list[Route]:
        return [
            Route("/setup/e/{account}/{token}", self.enter),
            Route("/setup/e/{account}/{token}", self.submit, methods=["POST"]),
            Route("/express/{account}/{token}", self.dashboard),
            Route("/express/{account}/{token}", self.change_bank, methods=["POST"]),
        ]

    async def enter(self, request: Request) -> Response:  # async: one thread only may write to the store
        """Open the form once; an old or used link goes back to the platform, which makes a new one."""
        link = self._found(request, "account_link")
        if link is None:
            return self._page("closed.html", 404, why="There is no such page.")
        if link["used"] or link["expires_at"] < time.time():
            return RedirectResponse(link["refresh_url"], 303)
        with self.store.transaction():
            self.store.put({**link, "used": True, "expires_at": time.time() + SESSION_SECONDS})
        return self._form(link, {})

    async def submit(self, request: Request) -> Response:
        """Take the details, or leave for later."""
        link = self._found(request, "account_link")
        form = {name: value.strip() for name, value in await forms.fields(request)}
        if link is None or not link["used"] or link["expires_at"] < time.time():
            return (
                RedirectResponse(link["refresh_url"], 303) if link else self._page("closed.html", 404, why="Too late.")
            )
        if form.get("answer") == "later":
            return RedirectResponse(link["return_url"], 303)
        errors = _problems(form)
        if errors:
            return self._form(link, form, errors)
        with self.store.transaction():
            self.moves.onboard(link["account"], form)
            self.store.put({**link, "expires_at": 0})
        return RedirectResponse(link["return_url"], 303)

    async def dashboard(self, request: Request) -> Response:
        """A person's own payouts and bank."""
        login = self._found(request, "login_link")
        return self._express(login, {}) if login else self._page("closed.html", 404, why="There is no such page.")

    async def change_bank(self, request: Request) -> Response:
        """Replace the bank account."""
        login = self._found(request, "login_link")
        if login is None:
            return self._page("closed.html", 404, why="There is no such page.")
        form = {name: value.strip() for name, value in await forms.fields(request)}
        country = self.moves.engine.find(login["account"], "account")["country"]
        errors = banks.problems(country, _digits(form.get("routing", "")), _digits(form.get("number", "")))
        if errors:
            return self._express(login, form, errors)
        with self.store.transaction():
            self.moves.set_bank(login["account"], _digits(form["routing"]), _digits(form["number"]))
        return self._express(login, {}, saved=True)

    def _found(self, request: Request, kind: str) -> Object | None:
        found = self.store.get(request.path_params["token"], kind)
        return found if found and found["account"] == request.path_params["account"] else None

    def _form(self, link: Object, form: dict[str, str], errors: dict[str, str] | None = None) -> Response:
        account = self.moves.engine.find(link["account"], "account")
        country = form.get("country", account["country"])
        return self._page(
            "onboarding.html", 400 if errors else 200, account=account, form=form, errors=errors or {},
            chosen=country, countries=[(code, found.name) for code, found in banks.COUNTRIES.items()], bank=banks.COUNTRIES["US"],
        )  # fmt: skip

    def _express(
        self, login: Object, form: dict[str, str], errors: dict[str, str] | None = None, *, saved: bool = False
    ) -> Response:
        account = self.moves.engine.find(login["account"], "account")
        own = [row for row in self.store.all("payout") if row["standin"]["account"] == account["id"]]
        payouts = [{**row, "dollars": f"{row['amount'] // 100:,}.{row['amount'] % 100:02d}"} for row in own]
        return self._page(
            "express.html", 400 if errors else 200, account=account, token=login["id"], payouts=payouts, form=form,
            errors=errors or {}, saved=saved, bank=account["external_accounts"]["data"][0],
        )  # fmt: skip

    def _page(self, name: str, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(self.templates.get_template(name).render(Context(values)), status)


def _problems(form: dict[str, str]) -> dict[str, str]:
    errors = {}
    if not form.get("name"):
        errors["name"] = "Type your name."
    try:
        born = time.strptime(form.get("born", ""), "%Y-%m-%d")
        if born.tm_year > time.gmtime().tm_year - 13:
            errors["born"] = "You must be at least 13 years old."
    except ValueError:
        errors["born"] = "Type your date of birth as YYYY-MM-DD."
    if not (form.get("ssn", "").isdigit() and len(form["ssn"]) == 4):
        errors["ssn"] = "Type the last four digits."
    form["routing"], form["number"] = _digits(form.get("routing", "")), _digits(form.get("number", ""))
    return errors | banks.problems(form.get("country", ""), form["routing"], form["number"])


def _digits(text: str) -> str:
    return text.replace(" ", "").replace("-", "")
