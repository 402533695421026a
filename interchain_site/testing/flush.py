"""Let tests with real transactions empty the database although the ledger and price lists refuse DELETE and TRUNCATE."""

from __future__ import annotations

from typing import Any

from django.db import connection

from billing.triggers import APPEND_ONLY


def allow_flush() -> None:
    """Replace this connection's flush by one that lifts the triggers that refuse while it runs. Only for tests."""
    run = connection.ops.execute_sql_flush

    def execute(statements: list[str]) -> None:
        lift, restore = _postgresql() if connection.vendor == "postgresql" else _sqlite()
        run([*lift, *statements, *restore])

    vars(connection.ops)["execute_sql_flush"] = execute


def _postgresql() -> tuple[list[str], list[str]]:
    return tuple(  # type: ignore[return-value]
        [f"ALTER TABLE {table} {verb} TRIGGER {table}_append_only" for table in APPEND_ONLY]
        for verb in ("DISABLE", "ENABLE")
    )


def _sqlite() -> tuple[list[str], list[str]]:
    rows: list[tuple[Any, ...]]
    with connection.cursor() as cursor:
        # Every trigger: published price lists refuse DELETE as well. PostgreSQL's TRUNCATE fires no row triggers.
        cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        rows = cursor.fetchall()
    return [f"DROP TRIGGER {name}" for name, _ in rows], [sql for _, sql in rows]
