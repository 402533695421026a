"""Answers to a page's browser wallet: `static/js/wallet.js` posts a form, and does what the answer says."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse

from billing.chain import keys
from interchain_site.core.errors import DomainError, Invalid

View = Callable[..., HttpResponse]
Step = Callable[..., dict[str, Any]]


def wallet_flow(view: Step) -> View:
    """Let a view return the wallet's next step, or raise a `DomainError`; both become JSON."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return JsonResponse(view(request, *args, **kwargs))
        except DomainError as error:
            return JsonResponse(error.as_dict(), status=error.status)

    return answer


def answers(request: HttpRequest, *names: str) -> dict[str, str]:
    """Return what the wallet gave so far, by those names; empty where it gave nothing yet."""
    return {name: str(request.POST.get(name, ""))[:10_000] for name in names}


def refuse(form: forms.Form) -> Invalid:
    """Return a form's complaints as an error."""
    said = " ".join(str(text) for errors in form.errors.values() for text in errors)
    return Invalid(said, fields={name: str(errors[0]) for name, errors in form.errors.items()})


def browser_chain() -> dict[str, str]:
    """Return the chain a page's wallet must be on.

    The node's address goes along only in the embedded default: elsewhere it may carry a key, and wallets know public chains.
    """
    rpc = settings.ETHEREUM_RPC_URL if keys.embedded() else ""
    return {"id": hex(settings.ETHEREUM_CHAIN_ID), "rpc": rpc}
