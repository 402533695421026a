"""Numbers for the order in which totals changed. The one row stays locked until the transaction ends, so a reader that
has seen number n will never find a smaller one appear later. Take a number as the last thing before writing.
"""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.db.models import F

from nodes.models import ReadingSequence


def allocate(count: int) -> int:
    """Return the first of `count` new numbers in a row. Call inside a transaction."""
    if not _advance(count):
        try:
            with transaction.atomic():
                ReadingSequence.objects.create(id=1, value=0)
        except IntegrityError:
            pass  # somebody else made the row a moment ago
        _advance(count)
    return ReadingSequence.objects.get(id=1).value - count + 1


def _advance(count: int) -> bool:
    return ReadingSequence.objects.filter(id=1).update(value=F("value") + count) == 1
