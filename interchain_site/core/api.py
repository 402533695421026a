"""What every API view shares: one error shape, `{code, message, fields}`."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_handler

from interchain_site.core.errors import DomainError, NotFound

BUSY_SECONDS = 5  # clients lengthen it at random, so that they do not all come back at once


def retry_headers(status: int) -> dict[str, str]:
    """Return what asks a client for patience when we are busy; nothing for any other answer."""
    return {"Retry-After": str(BUSY_SECONDS)} if status == 503 else {}


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer a `DomainError` or a DRF error as `{code, message, fields}`; anything else stays a 500."""
    if isinstance(error, DomainError):
        return Response(error.as_dict(), status=error.status, headers=retry_headers(error.status))
    if isinstance(error, RecursionError):  # a body of nothing but brackets
        return Response({"code": "malformed", "message": "The body is nested too deeply.", "fields": {}}, status=400)
    response = drf_handler(error, context)
    if response is None:
        return None
    if isinstance(error, exceptions.ValidationError):
        detail = error.detail if isinstance(error.detail, dict) else {"": error.detail}
        fields = {name: _first(value) for name, value in detail.items()}
        response.data = {"code": "invalid", "message": "Some of what was sent cannot be accepted.", "fields": fields}
    elif isinstance(error, exceptions.APIException):
        response.data = {"code": str(error.get_codes()), "message": str(error.detail), "fields": {}}
    else:
        response.data = {
            "code": "not_found" if response.status_code == 404 else "not_allowed",
            "message": str(error),
            "fields": {},
        }
    return response


@csrf_exempt
def not_found(request: HttpRequest) -> JsonResponse:
    """Answer an address of the API that does not exist as the API answers, not with a page."""
    return JsonResponse(NotFound().as_dict(), status=NotFound.status)


def _first(value: Any) -> str:
    while isinstance(value, list | dict):
        value = next(iter(value.values() if isinstance(value, dict) else value), "")
    return str(value)
