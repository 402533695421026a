"""Typed reading of environment variables; a missing or half-set one says how to mend it.

Every name read here stands in `dotenv-sample` with its meaning.
"""

from __future__ import annotations

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def text(name: str, default: str | None = None) -> str:
    """Return the variable's text.

    Raises:
        ImproperlyConfigured: it is not set and has no default.
    """
    value = os.environ.get(name, default)
    if value is None:
        raise ImproperlyConfigured(f"{name} is not set. Add it to .env (dotenv-sample explains it), then start again.")
    return value


def flag(name: str, default: bool = False) -> bool:
    """Return true for 1/true/yes/on, false for 0/false/no/off."""
    raw = os.environ.get(name, "")
    if raw == "":
        return default
    if raw.lower() in {"1", "true", "yes", "on"}:
        return True
    if raw.lower() in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name}={raw!r} is neither true nor false. Write 1 or 0.")


def integer(name: str, default: int) -> int:
    """Return the variable as a whole number."""
    raw = os.environ.get(name, "")
    if raw == "":
        return default
    try:
        return int(raw)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={raw!r} is not a whole number.") from None


def names(name: str, default: str = "") -> list[str]:
    """Return a comma-separated variable as a list without empty items."""
    return [part.strip() for part in os.environ.get(name, default).split(",") if part.strip()]


def load_dotenv(path: Path) -> None:
    """Read `KEY=value` lines of a file into the environment; what is already set wins."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        line = line.strip()
        if line and not line.startswith("#") and "=" in line:
            key, value = line.split("=", 1)
            os.environ.setdefault(key.strip(), value.strip().strip('"'))
