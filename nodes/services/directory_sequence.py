"""Numbers for the order in which the directory changed. The one row stays locked until the transaction ends, so a reader that
has seen number n will never find a smaller one appear later, and no two processes sign for one name at once.
"""

from __future__ import annotations

from django.db.models import F

from nodes.models import DirectoryCounter


def lock() -> None:
    """Let nobody else change the directory until this transaction ends."""
    DirectoryCounter.objects.get_or_create(id=1)
    DirectoryCounter.objects.filter(id=1).update(value=F("value"))


def take() -> int:
    """Return the next number. The caller holds the lock."""
    DirectoryCounter.objects.filter(id=1).update(value=F("value") + 1)
    return DirectoryCounter.objects.get(id=1).value


def newest() -> int:
    """Return the last number given, 0 before the first."""
    row = DirectoryCounter.objects.filter(id=1).first()
    return row.value if row is not None else 0
