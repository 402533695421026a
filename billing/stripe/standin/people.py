"""The pages people see: the payment page with its test cards, and a dashboard to refund, dispute and resend by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.template import Context
from django.template import Engine as Templates
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from billing.stripe.standin import cards, forms
from billing.stripe.standin.engine import OPEN_DISPUTE, ApiError, Engine
from billing.stripe.standin.moves import Moves
from billing.stripe.standin.store import Object

HERE = Path(__file__).parent / "pages"
# What the dashboard does with Connect's money, by the name of the button: the thing's id and an amount in cents.
MOVES: dict[str, Callable[[Moves, str, int], object]] = {
    "arrive": lambda moves, payout, _: moves.arrive(payout),
    "bounce": lambda moves, payout, _: moves.bounce(payout),
    "verify": lambda moves, account, _: moves.verify(account),
    "reject": lambda moves, account, _: moves.reject(account),
    "top-up": lambda moves, _, cents: moves.top_up(cents),
    "withdraw": lambda moves, _, cents: moves.payout({"amount": cents, "currency": "usd"}, ""),
}


class People:
    """Pages over an engine."""

    def __init__(self, engine: Engine, moves: Moves) -> None:
        if not settings.configured:
            settings.configure(USE_I18N=False)  # the template language reads it; nothing else of Django is used
        self.engine, self.moves = engine, moves
        self.templates = Templates(dirs=[str(HERE)])

    def routes(self) -> list[Route]:
        return [
            Route("/", lambda request: RedirectResponse("/dashboard")),
            Route("/style.css", self.style),
            Route("/c/pay/{id}", self.pay_page),
            Route("/c/pay/{id}", self.pay, methods=["POST"]),
            Route("/c/pay/{id}/bank", self.bank, methods=["POST"]),
            Route("/dashboard", self.dashboard),
            Route("/dashboard/{action}/{id}", self.act, methods=["POST"]),
        ]

    def style(self, request: Request) -> Response:
        return PlainTextResponse((HERE / "style.css").read_text(), media_type="text/css")

    def pay_page(self, request: Request) -> Response:
        session = self.engine.store.get(request.path_params["id"], "checkout.session")
        if session is None:
            return self._page("closed.html", 404, why="There is no such payment page.")
        if session["status"] == "complete":
            return RedirectResponse(_success_url(session), 303)
        if session["status"] == "expired":
            return self._page("closed.html", 410, why="This payment page has expired.", back=session["cancel_url"])
        return self._form(session)

    async def pay(self, request: Request) -> Response:
        session = self.engine.store.get(request.path_params["id"], "checkout.session")
        if session is None or session["status"] != "open":
            return self.pay_page(request)
        form = {name: value.strip() for name, value in await forms.fields(request)}
        number = form.get("number", "").replace(" ", "").replace("-", "")
        errors = _check_card(number, form)
        if errors:
            return self._form(session, form, errors)
        outcome = cards.look_up(number)
        if outcome.asks:
            return self._page("bank.html", session=session, number=number)
        return self._try(session, number, outcome, form)

    async def bank(self, request: Request) -> Response:
        session = self.engine.store.get(request.path_params["id"], "checkout.session")
        if session is None or session["status"] != "open":
            return self.pay_page(request)
        form = dict(await forms.fields(request))
        outcome = cards.look_up(form.get("number", ""))
        if form.get("answer") != "approve":
            message = "Your bank did not approve this payment. Try a different card."
            outcome = cards.Outcome(code="payment_intent_authentication_failure", message=message)
        return self._try(session, form.get("number", ""), outcome, form)

    def dashboard(self, request: Request) -> Response:
        return self._page("dashboard.html", error=request.query_params.get("error", ""), **self._overview())

    async def act(self, request: Request) -> Response:
        form = dict(await forms.fields(request))
        thing, error = request.path_params["id"], ""
        try:
            with self.engine.store.transaction():
                self._do(request.path_params["action"], thing, form.get("amount", ""))
        except (ApiError, InvalidOperation) as problem:
            error = "?" + urlencode({"error": str(problem)[:150]})
        return RedirectResponse(f"/dashboard{error}", 303)

    def _do(self, action: str, thing: str, amount: str) -> None:
        engine = self.engine
        if action == "refund":
            cents = {"amount": int(Decimal(amount) * 100)} if amount else {}
            engine.refund({"charge": thing, **cents})
        elif action == "fail-refund":
            engine.fail_refund(thing)
        elif action == "dispute":
            engine.dispute(thing)
        elif action in ("win", "lose"):
            engine.close_dispute(thing, "won" if action == "win" else "lost")
        elif action in MOVES:
            MOVES[action](self.moves, thing, int(Decimal(amount.replace(",", "")) * 100) if amount else 0)
        elif action == "resend":
            engine.store.deliver(engine.find(thing, "event")["id"])
        else:
            raise ApiError(f"There is no action {action!r}.")

    def _try(self, session: Object, number: str, outcome: cards.Outcome, form: dict[str, str]) -> Response:
        with self.engine.store.transaction():
            declined = self.engine.pay(session["id"], number, outcome)
        if declined:
            return self._form(session, form, {"card": declined})
        return RedirectResponse(_success_url(session), 303)

    def _form(
        self, session: Object, form: dict[str, str] | None = None, errors: dict[str, str] | None = None
    ) -> Response:
        return self._page(
            "pay.html", 402 if errors else 200, session=session, amount=_dollars(session["amount_total"]),
            what=session["standin"]["items"][0]["price_data"]["product_data"]["name"], form=form or {}, errors=errors or {},
        )  # fmt: skip

    def _overview(self) -> dict[str, Any]:
        store = self.engine.store
        disputes = [{**row, "open": row["status"] in OPEN_DISPUTE} for row in store.all("dispute")]
        charges = []
        for row in store.all("charge")[:100]:
            own = [dispute for dispute in disputes if dispute["charge"] == row["id"]]
            refunds = [refund for refund in store.all("refund") if refund["charge"] == row["id"]]
            left = row["amount"] - row["amount_refunded"]
            shown = {"dollars": _dollars(row["amount"]), "left": _dollars(left), "at": _moment(row["created"])}
            charges.append({**row, **shown, "disputes": own, "refunds": refunds, "can": row["paid"] and left})
        events = []
        for event in store.all("event")[:50]:
            attempts, delivered, note = store.delivery(event["id"])
            events.append(
                {**event, "attempts": attempts, "delivered": delivered, "note": note, "at": _moment(event["created"])}
            )
        payouts = [
            {**row, "dollars": _dollars(row["amount"]), "at": _moment(row["created"])} for row in store.all("payout")
        ]
        balance = self.engine.balances.shown()
        sums = {name: _dollars(balance[name][0]["amount"]) for name in ("available", "pending")}
        return {"charges": charges, "events": events, "payouts": payouts[:50], "balance": sums}

    def _page(self, name: str, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(self.templates.get_template(name).render(Context(values)), status)


def _check_card(number: str, form: dict[str, str]) -> dict[str, str]:
    errors = {}
    if not cards.luhn(number):
        errors["number"] = "Your card number is incorrect."
    month, _, year = form.get("expiry", "").replace(" ", "").partition("/")
    if not (month.isdigit() and year.isdigit() and 1 <= int(month) <= 12 and len(year) in (2, 4)):
        errors["expiry"] = "Write the expiry date as MM / YY."
    else:
        now = time.gmtime()
        if (int(year) % 100 + 2000, int(month)) < (now.tm_year, now.tm_mon):
            errors["expiry"] = "Your card's expiration year is in the past."
    if not (form.get("cvc", "").isdigit() and len(form["cvc"]) in (3, 4)):
        errors["cvc"] = "Your card's security code is incomplete."
    return errors


def _success_url(session: Object) -> str:
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


def _dollars(cents: int) -> str:
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100:,}.{abs(cents) % 100:02d}"


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
