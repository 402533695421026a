"""The errors a person or a program may be told about.

A service raises a `DomainError`; the API shows it as `{code, message, fields}` and pages show its message.
The message says what happened and what to do next, in plain words.
"""

from __future__ import annotations

from collections.abc import Mapping


class DomainError(Exception):
    """Something the caller asked for cannot be done, and why.

    Attributes:
        code: short stable name, `snake_case`, for programs.
        status: HTTP status an API answers with.
        permanent: false when trying the same again later may work; tasks retry only then.
        fields: per-field messages for forms.
    """

    code = "refused"
    message = "This cannot be done."
    status = 400
    permanent = True

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        self.message = message or self.message
        self.code = code or self.code
        self.fields = dict(fields or {})
        super().__init__(self.message)

    def as_dict(self) -> dict[str, object]:
        """Return the shape every API error has."""
        return {"code": self.code, "message": self.message, "fields": self.fields}


class NotAllowed(DomainError):
    code, status = "not_allowed", 403
    message = "Your account may not do this."


class NotFound(DomainError):
    code, status = "not_found", 404
    message = "There is nothing here by that name."


class Invalid(DomainError):
    code, status = "invalid", 400
    message = "Some of what was sent cannot be accepted."


class Conflict(DomainError):
    code, status = "conflict", 409
    message = "This was changed meanwhile. Reload and try again."


class Busy(DomainError):
    """Somebody else holds what is needed; the same call may work in a moment."""

    code, status, permanent = "busy", 503, False
    message = "The system is busy with the same thing. Try again in a moment."
