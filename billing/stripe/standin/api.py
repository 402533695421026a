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
from billing.stripe.standin.store import Object, new_id

Handler = Callable[[Request, Object], Object]


class Api:
    """Routes under /v1/, over an engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def routes(self) -> list[Route]:
        return [
            self._route("/v1/checkout/sessions", self.create_session, "POST"),
            self._route("/v1/checkout/sessions/{id}", self._read("checkout.session")),
            self._route("/v1/checkout/sessions/{id}/expire", self.expire_session, "POST"),
            self._route("/v1/payment_intents/{id}", self._read("payment_intent")),
            self._route("/v1/charges/{id}", self._read("charge")),
            self._route("/v1/refunds", self.create_refund, "POST"),
            self._route("/v1/refunds", self._list("refund", "/v1/refunds")),
            self._route("/v1/refunds/{id}", self._read("refund")),
            self._route("/v1/disputes", self._list("dispute", "/v1/disputes")),
            self._route("/v1/disputes/{id}", self._read("dispute")),
            self._route("/v1/disputes/{id}/close", self.close_dispute, "POST"),
            self._route("/v1/events", self._list("event", "/v1/events")),
            self._route("/v1/events/{id}", self._read("event")),
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

    def _read(self, kind: str) -> Handler:
        return lambda request, params: self.engine.find(request.path_params["id"], kind)

    def _list(self, kind: str, url: str) -> Handler:
        def handler(request: Request, params: Object) -> Object:
            forms.check(params, forms.LIST_PARAMS)
            wanted = {name: params[name] for name in ("payment_intent", "charge") if name in params}
            rows = [row for row in self.engine.store.all(kind) if all(row.get(k) == v for k, v in wanted.items())]
            limit = int(params.get("limit", 10))
            return {"object": "list", "url": url, "has_more": len(rows) > limit, "data": rows[:limit]}

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
        try:
            _check_key(request)
            with self.engine.store.transaction():
                asked = hashlib.sha256(f"{request.url.path} {sorted(params.items())!r}".encode()).hexdigest()
                if key and (earlier := self.engine.store.answer_for(key)):
                    if earlier[0] != asked:
                        message = "Keys for idempotent requests can only be used with the same parameters they were first used with."
                        raise ApiError(message, kind="idempotency_error")
                    return earlier[1], earlier[2], True
                body = forms.expand(self.engine.store, handler(request, params), params.get("expand"))
                if key:
                    self.engine.store.keep_answer(key, asked, 200, body)
            return 200, body, False
        except ApiError as error:
            return error.status, error.body, False


def _check_key(request: Request) -> None:
    key = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if "_live_" in key:
        raise ApiError("This is a stand-in. It never takes a live key.", status=401)
    if not key.startswith(("sk_test_", "rk_test_")):
        raise ApiError("Invalid API Key provided. Use one that begins with sk_test_.", status=401)
