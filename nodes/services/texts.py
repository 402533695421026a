"""Text that came from a device, made safe to store: no NUL, no half characters, no more than agreed."""

from __future__ import annotations


def clean(text: str, limit: int) -> str:
    """Return at most `limit` characters that any database takes. The end is kept, because logs end with the reason."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "�")[-limit:]
