"""Stripe's form encoding: `line_items[0][price_data][currency]=usd` and back, and which parameters each call knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from billing.stripe.standin.errors import ApiError
from billing.stripe.standin.store import Object, Store

SESSION_PARAMS = {
    "mode",
    "payment_method_types",
    "client_reference_id",
    "customer_email",
    "success_url",
    "cancel_url",
    "expires_at",
    "metadata",
    "payment_intent_data",
    "line_items",
    "expand",
}
REFUND_PARAMS = {"payment_intent", "charge", "amount", "reason", "metadata", "expand"}
LIST_PARAMS = {"limit", "starting_after", "ending_before", "expand"}
ACCOUNT_PARAMS = {"business_type", "business_profile", "capabilities", "controller", "country", "email", "metadata",
                  "settings", "tos_acceptance", "expand"}  # fmt: skip
CONTROLLER = {"fees", "losses", "stripe_dashboard", "requirement_collection"}
LINK_PARAMS = {"account", "refresh_url", "return_url", "type", "collection_options", "expand"}
TRANSFER_PARAMS = {"amount", "currency", "destination", "description", "metadata", "transfer_group", "source_transaction",
                   "expand"}  # fmt: skip
REVERSAL_PARAMS = {"amount", "description", "metadata", "refund_application_fee", "expand"}
PAYOUT_PARAMS = {"amount", "currency", "description", "destination", "metadata", "method", "source_type",
                 "statement_descriptor", "expand"}  # fmt: skip


async def fields(request: Request) -> list[tuple[str, str]]:
    """Return a request's form fields, or its query for a GET."""
    text = (await request.body()).decode() if request.method == "POST" else request.url.query
    return parse_qsl(text, keep_blank_values=True)


def decode(pairs: Iterable[tuple[str, str]]) -> Object:
    """Turn form fields with brackets into nested dictionaries and lists."""
    root: Object = {}
    for name, value in pairs:
        path = name.replace("]", "").split("[")
        here = root
        for step in path[:-1]:
            here = here.setdefault(step, {})
        here[path[-1]] = value
    return {name: _lists(value) for name, value in root.items()}


def check(params: Object, known: set[str], required: Iterable[str] = ()) -> None:
    """Refuse a parameter Stripe does not know, and the lack of one it needs."""
    for name in params:
        if name not in known:
            raise ApiError(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
    for name in required:
        if not params.get(name):
            raise ApiError(f"Missing required param: {name}.", code="parameter_missing", param=name)


def check_session(params: Object) -> None:
    """Refuse a checkout that Stripe would refuse."""
    check(params, SESSION_PARAMS, ("mode", "line_items", "success_url"))
    if params["mode"] != "payment":
        raise ApiError("This stand-in knows mode=payment only.", param="mode")
    for item in params["line_items"]:
        try:
            good = int(item["quantity"]) > 0 and int(item["price_data"]["unit_amount"]) >= 0
            good = good and bool(item["price_data"]["currency"]) and bool(item["price_data"]["product_data"]["name"])
        except (KeyError, TypeError, ValueError):
            good = False
        if not good:
            raise ApiError("Each of line_items needs a quantity and price_data.", param="line_items")


def check_account(params: Object) -> None:
    """Refuse an account Stripe would refuse, or one of a kind this stand-in does not know."""
    check(params, ACCOUNT_PARAMS, ("controller",))
    controller = params["controller"]
    check(controller, CONTROLLER)
    if (controller.get("stripe_dashboard") or {}).get("type") != "express":
        raise ApiError("This stand-in knows controller[stripe_dashboard][type]=express only.", param="controller")
    if controller.get("requirement_collection", "stripe") != "stripe":
        message = "When stripe_dashboard[type]=express, Stripe must collect the requirements."
        raise ApiError(message, param="controller[requirement_collection]")
    if not params.get("capabilities", {}).get("transfers", {}).get("requested"):
        raise ApiError("Request the capability transfers.", param="capabilities")


def expand(store: Store, thing: Object, paths: Any) -> Object:
    """Return the object as the API shows it, ids on the asked paths replaced by the objects themselves."""
    shown = {key: value for key, value in thing.items() if key != "standin"}
    for path in paths or []:
        first, _, rest = str(path).partition(".")
        inner = shown.get(first)
        found = store.get(inner) if isinstance(inner, str) else inner
        if isinstance(found, dict):
            shown[first] = expand(store, found, [rest] if rest else [])
    return shown


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    found = {key: _lists(inner) for key, inner in value.items()}
    if found and all(key.isdigit() or key == "" for key in found):
        return list(found.values())
    return found
