"""Encryption at rest for publishers' secrets and other small texts (Fernet; keys rotate by putting the new one first)."""

from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from interchain_site.core.errors import DomainError


class Undecryptable(DomainError):
    code, status = "undecryptable", 500
    message = "A stored secret cannot be read: its key is missing from FIELD_ENCRYPTION_KEYS."


def encrypt(plain: str) -> str:
    """Return the text encrypted with the first of FIELD_ENCRYPTION_KEYS."""
    return _box().encrypt(plain.encode()).decode()


def decrypt(token: str) -> str:
    """Return the text behind `encrypt`.

    Raises:
        Undecryptable: none of the keys opens it.
    """
    try:
        return _box().decrypt(token.encode()).decode()
    except InvalidToken:
        raise Undecryptable from None


def _box() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.FIELD_ENCRYPTION_KEYS])
