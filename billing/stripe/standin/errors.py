"""An answer of the API that is a refusal, in Stripe's shape."""

from __future__ import annotations

from billing.stripe.standin.store import Object


class ApiError(Exception):
    """An answer in Stripe's error shape. One that came after the work began is `kept`: its key gives the same answer again."""

    def __init__(
        self, message: str, *, status: int = 400, code: str = "", param: str = "", kind: str = "", kept: bool = False
    ) -> None:
        super().__init__(message)
        self.status, self.kept = status, kept
        self.body: Object = {"error": {"type": kind or "invalid_request_error", "message": message}}
        if code:
            self.body["error"]["code"] = code
        if param:
            self.body["error"]["param"] = param
