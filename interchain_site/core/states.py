"""Moving a row from one state to the next, so that of two who noticed the same thing only one acts on it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from django.db import models

from interchain_site.core.errors import Conflict


def check_move(table: Mapping[str, Collection[str]], old: str, new: str) -> None:
    """Allow a move that the table has.

    Raises:
        Conflict: it has not.
    """
    if new not in table[old]:
        raise Conflict(f"A move from {old} to {new} is not allowed.")


def compare_and_set(row: models.Model, *, seen: Mapping[str, object], changes: Mapping[str, object]) -> bool:
    """Change columns of a row if these others are still as the caller saw them; returns whether they were.

    The object given then has the new values; otherwise it is left as it was, and somebody else moved the row.
    """
    if type(row)._default_manager.filter(pk=row.pk, **seen).update(**changes) != 1:
        return False
    for name, value in changes.items():
        setattr(row, name, value)
    return True
