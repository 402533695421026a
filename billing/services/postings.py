"""What `post()` takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter


@dataclass(frozen=True, slots=True)
class Line:
    """One side of a posting: `amount` in base units of NTC or in cents; above zero raises the account's balance."""

    account_id: int
    amount: int


@dataclass(frozen=True, slots=True)
class Posting:
    """A transaction to write. `key` makes it happen once; `effective_at` is when it happened in the world."""

    key: str
    kind: str
    lines: tuple[Line, ...]
    effective_at: datetime
    memo: str = ""
    reference: str = ""
    reverses_id: int | None = None


def credits_first(lines: Iterable[Line]) -> list[Line]:
    """Order lines so that no balance dips lower on the way than at the end: only the end of a posting counts."""
    return sorted(lines, key=attrgetter("amount"), reverse=True)


def signature(lines: Iterable[Line]) -> Counter[tuple[int, int]]:
    """Return what makes two postings the same: their lines, in any order."""
    return Counter((line.account_id, line.amount) for line in lines)
