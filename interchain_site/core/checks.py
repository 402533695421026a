"""System checks with ids: a wrong or missing setting says how to mend it, at start (see docs/architecture.md)."""

from __future__ import annotations

from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register


@register("interchain")
def check_settings(**_: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if settings.TIME_ZONE != "UTC" or not settings.USE_TZ:
        found.append(
            Error("The time zone is not UTC.", hint="Leave TIME_ZONE='UTC' and USE_TZ=True.", id="interchain.E001")
        )
    if not settings.DEBUG and settings.SECRET_KEY.startswith("insecure-"):
        found.append(
            Error(
                "SECRET_KEY is the sample one.",
                hint="Set SECRET_KEY to 50 random characters in .env.",
                id="interchain.E002",
            )
        )
    try:
        if not settings.FIELD_ENCRYPTION_KEYS:
            raise ValueError("empty")
        for key in settings.FIELD_ENCRYPTION_KEYS:
            Fernet(key)
    except ValueError:
        found.append(
            Error(
                "FIELD_ENCRYPTION_KEYS is empty or holds something that is not a Fernet key.",
                hint="Make one: python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'",
                id="interchain.E003",
            )
        )
    if not settings.DEBUG and not settings.PORTAL_URL.startswith("https://"):
        found.append(
            Warning("PORTAL_URL is not https.", hint="Put TLS in front and set PORTAL_URL to it.", id="interchain.W004")
        )
    if not settings.DEBUG and settings.DATABASES["default"]["ENGINE"].endswith("sqlite"):
        found.append(Warning("SQLite in production.", hint="Set DATABASE_URL=postgres://…", id="interchain.W005"))
    return found
