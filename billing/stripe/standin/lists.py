"""Lists as Stripe gives them: newest first, filtered, a page at a time by the last id seen."""

from __future__ import annotations

from typing import Any

from billing.stripe.standin.errors import ApiError
from billing.stripe.standin.store import Object

NO_FILTER = {"limit", "starting_after", "ending_before", "expand", "created"}
LARGEST_PAGE = 100


def page(rows: list[Object], params: Object, *, url: str) -> Object:
    """Return one page of `rows` (newest first) as the API shows it."""
    wanted = {name: value for name, value in params.items() if name not in NO_FILTER}
    rows = [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]
    rows = [row for row in rows if _created(row, params.get("created"))]
    limit = int(params.get("limit", 10))
    if not 1 <= limit <= LARGEST_PAGE:
        raise ApiError(f"Invalid integer: {limit} is not between 1 and {LARGEST_PAGE}.", param="limit")
    before = False
    ids = [row["id"] for row in rows]
    if after := params.get("starting_after"):
        rows = rows[_place(ids, after, "starting_after") + 1 :]
    elif until := params.get("ending_before"):
        rows, before = rows[: _place(ids, until, "ending_before")], True
    chosen = rows[-limit:] if before else rows[:limit]
    shown = [{key: value for key, value in row.items() if key != "standin"} for row in chosen]
    return {"object": "list", "url": url, "has_more": len(rows) > limit, "data": shown}


def _created(row: Object, wanted: Any) -> bool:
    if wanted is None:
        return True
    if not isinstance(wanted, dict):
        return bool(row["created"] == int(wanted))
    at = row["created"]
    tests = {"gt": at.__gt__, "gte": at.__ge__, "lt": at.__lt__, "lte": at.__le__}
    return all(tests[name](int(value)) for name, value in wanted.items())


def _place(ids: list[str], wanted: str, param: str) -> int:
    if wanted not in ids:
        raise ApiError(f"No such object: '{wanted}'", code="resource_missing", param=param)
    return ids.index(wanted)
