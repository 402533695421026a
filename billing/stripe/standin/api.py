"""The REST calls the SDK makes: who may, the same answer for the same idempotency key, Stripe's shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from billing.stripe.standin import forms
from billing.stripe.standin.engine import ApiError, Engine
from billing.stripe.standin.lists import page
from billing.stripe.standin.moves import Moves
from billing.stripe.standin.store import Object, new_id

Handler = Callable[[Request, Object], Object]


class Api:
    """Routes under /v1/, over an engine."""

    def __init__(self, engine: Engine, moves: Moves) -> None:
        self.engine, self.moves = engine, moves

    def routes(self) -> list[Route]:
        return [
            self._route("/v1/checkout/sessions", self.create_session, "POST"),
            self._route("/v1/checkout/sessions/{id}", self._read("checkout.session")),
            self._route("/v1/checkout/sessions/{id}/expire", self.expire_session, "POST"),
            self._route("/v1/payment_intents/{id}", self._read("payment_intent")),
            self._route("/v1/charges", self._list("charge", "payment_intent", "transfer_group", "created")),
            self._route("/v1/charges/{id}", self._read("charge")),
            self._route("/v1/refunds", self.create_refund, "POST"),
            self._route("/v1/refunds", self._list("refund", "payment_intent", "charge", "created")),
            self._route("/v1/refunds/{id}", self._read("refund")),
            self._route("/v1/disputes", self._list("dispute", "payment_intent", "charge", "created")),
            self._route("/v1/disputes/{id}", self._read("dispute")),
            self._route("/v1/disputes/{id}/close", self.close_dispute, "POST"),
            self._route("/v1/events", self._list("event", "type", "created")),
            self._route("/v1/events/{id}", self._read("event")),
            *self._connect_routes(),
        ]

    def _connect_routes(self) -> list[Route]:
        return [
            self._route("/v1/accounts", self.create_account, "POST"),
            self._route("/v1/accounts/{id}", self._read("account")),
            self._route("/v1/accounts/{id}/login_links", self.create_login_link, "POST"),
            self._route("/v1/account_links", self.create_link, "POST"),
            self._route("/v1/transfers", self.create_transfer, "POST"),
            self._route("/v1/transfers", self._list("transfer", "destination", "transfer_group", "created")),
            self._route("/v1/transfers/{id}", self._read("transfer")),
            self._route("/v1/transfers/{id}/reversals", self.create_reversal, "POST"),
            self._route("/v1/payouts", self.create_payout, "POST"),
            self._route("/v1/payouts", self._list("payout", "status", "destination", "created")),
            self._route("/v1/payouts/{id}", self._read("payout")),
            self._route("/v1/balance", self.balance),
            self._route("/v1/balance_transactions", self._list("balance_transaction", "type", "source", "created")),
            self._route("/v1/balance_transactions/{id}", self._read("balance_transaction")),
        ]

    def create_session(self, request: Request, params: Object) -> Object:
        forms.check_session(params)
        return self.engine.create_session(params, str(request.base_url).rstrip("/"))

    def expire_session(self, request: Request, params: Object) -> Object:
        return self.engine.expire_session(request.path_params["id"])

    def create_refund(self, request: Request, params: Object) -> Object:
        forms.check(params, forms.REFUND_PARAMS)
        return self.engine.refund(params)

    def close_dispute(self, request: Request, params: Object) -> Object:
        return self.engine.close_dispute(request.path_params["id"], "lost")

    def create_account(self, request: Request, params: Object) -> Object:
        forms.check_account(params)
        return self.moves.create_account(params)

    def create_link(self, request: Request, params: Object) -> Object:
        forms.check(params, forms.LINK_PARAMS, ("account", "refresh_url", "return_url", "type"))
        return self.moves.create_link(params, _base(request))

    def create_login_link(self, request: Request, params: Object) -> Object:
        return self.moves.create_login_link(request.path_params["id"], _base(request))

    def create_transfer(self, request: Request, params: Object) -> Object:
        forms.check(params, forms.TRANSFER_PARAMS, ("amount", "currency", "destination"))
        return self.moves.transfer(params)

    def create_reversal(self, request: Request, params: Object) -> Object:
        forms.check(params, forms.REVERSAL_PARAMS)
        return self.moves.reverse(request.path_params["id"], params)

    def create_payout(self, request: Request, params: Object) -> Object:
        forms.check(params, forms.PAYOUT_PARAMS, ("amount", "currency"))
        return self.moves.payout(params, _account(request))

    def balance(self, request: Request, params: Object) -> Object:
        return self.engine.balances.shown(_account(request))

    def _read(self, kind: str) -> Handler:
        def handler(request: Request, params: Object) -> Object:
            found = self.engine.find(request.path_params["id"], kind)
            if found.get("standin", {}).get("account", "") != _account(request):
                message = f"No such {kind}: '{found['id']}'"  # somebody else's
                raise ApiError(message, status=404, code="resource_missing", param="id")
            return found

        return handler

    def _list(self, kind: str, *filters: str) -> Handler:
        def handler(request: Request, params: Object) -> Object:
            forms.check(params, {*forms.LIST_PARAMS, *filters})
            account = _account(request)
            rows = self.engine.balances.of(account) if kind == "balance_transaction" else self.engine.store.all(kind)
            own = [row for row in rows if row.get("standin", {}).get("account", "") == account]
            return page(own, params, url=request.url.path)

        return handler

    def _route(self, path: str, handler: Handler, method: str = "GET") -> Route:
        async def endpoint(request: Request) -> JSONResponse:
            params = forms.decode(await forms.fields(request))
            status, body, replayed = self._answer(request, handler, params)
            headers = {"Request-Id": new_id("req")} | ({"Idempotent-Replayed": "true"} if replayed else {})
            return JSONResponse(body, status, headers)

        found: Callable[[Request], Awaitable[JSONResponse]] = endpoint
        return Route(path, found, methods=[method])

    def _answer(self, request: Request, handler: Handler, params: Object) -> tuple[int, Any, bool]:
        key = request.headers.get("Idempotency-Key", "") if request.method == "POST" else ""
        key = key and f"{_account(request)}:{key}"
        asked = hashlib.sha256(f"{request.url.path} {sorted(params.items())!r}".encode()).hexdigest()
        try:
            _check_key(request)
            with self.engine.store.transaction():
                if key and (earlier := self.engine.store.answer_for(key)):
                    if earlier[0] != asked:
                        message = "Keys for idempotent requests can only be used with the same parameters they were first used with."
                        raise ApiError(message, kind="idempotency_error")
                    return earlier[1], earlier[2], True
                if account := _account(request):
                    self.engine.find(account, "account")
                body = forms.expand(self.engine.store, handler(request, params), params.get("expand"))
                if key:
                    self.engine.store.keep_answer(key, asked, 200, body)
            return 200, body, False
        except ApiError as error:
            if key and error.kept:
                with self.engine.store.transaction():
                    self.engine.store.keep_answer(key, asked, error.status, error.body)
            return error.status, error.body, False


def _check_key(request: Request) -> None:
    key = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if "_live_" in key:
        raise ApiError("This is a stand-in. It never takes a live key.", status=401)
    if not key.startswith(("sk_test_", "rk_test_")):
        raise ApiError("Invalid API Key provided. Use one that begins with sk_test_.", status=401)


def _account(request: Request) -> str:
    """Return the connected account the call is made for; empty for the platform itself."""
    return request.headers.get("Stripe-Account", "")


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")
