"""Queries whose SQL Django makes once in each thread: for calls that come so often that making it is most of their work (bench/fleet).

The query is written as any other, with `Given(n, field)` where the n-th value goes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Expression, Field, Model, QuerySet
from django.db.models.expressions import Col
from django.db.models.sql.compiler import SQLCompiler

M = TypeVar("M", bound=Model)


class Given(Expression):
    """The value of this place among those the query is run with."""

    def __init__(self, place: int, field: Field[Any, Any]) -> None:
        super().__init__(output_field=field)
        self.place = place

    def as_sql(self, compiler: SQLCompiler, connection: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        return "%s", [self]  # replaced when the query is run


@dataclass
class _Made:
    sql: str
    parameters: tuple[Any, ...]
    compiler: SQLCompiler
    converters: dict[int, Any]
    model: Any
    names: list[str]


class Prepared(Generic[M]):
    """A SELECT on one model, run again and again with other values."""

    def __init__(self, build: Callable[[], QuerySet[M, Any]]) -> None:
        """Args: build: makes the query; it must not depend on anything that changes."""
        self._build, self._local = build, threading.local()

    def rows(self, *values: Any) -> Iterable[Any]:
        """Return the rows, with values as Django would give them."""
        made = self._made()
        here = made.compiler.connection
        with here.cursor() as cursor:
            cursor.execute(made.sql, [_filled(parameter, values, here) for parameter in made.parameters])
            found = cursor.fetchall()
        return made.compiler.apply_converters(found, made.converters) if made.converters else found

    def first(self, *values: Any) -> M | None:
        """Return the first row as an object of the model, or None. The query selects fields of the model only."""
        for row in self.rows(*values):
            made = self._made()
            found: M = made.model.from_db(DEFAULT_DB_ALIAS, made.names, row)
            return found
        return None

    def _made(self) -> _Made:
        here: Any = connections[DEFAULT_DB_ALIAS]
        made: _Made | None = getattr(self._local, "made", None)
        if made is None or made.compiler.connection is not here:
            query = self._build().query
            compiler = query.get_compiler(connection=here)
            sql, parameters = compiler.as_sql()
            columns = [column for column, _, _ in compiler.select or ()]
            names = [column.target.attname for column in columns if isinstance(column, Col)]
            made = _Made(sql, parameters, compiler, compiler.get_converters(columns), query.model, names)
            self._local.made = made
        return made


def _filled(parameter: Any, values: tuple[Any, ...], here: Any) -> Any:
    if isinstance(parameter, Given):
        return parameter.output_field.get_db_prep_value(values[parameter.place], here)
    return parameter
