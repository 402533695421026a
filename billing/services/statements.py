"""Usage statements: the evidence behind each charge, kept as canonical JSON until an epoch commits to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from billing.errors import IdempotencyConflict
from billing.models import UsageDocument, UsageStatement
from interchain_site.core.canonical import canonical_json, sha256_hex

BATCH = 1_000


@dataclass(frozen=True)
class StatementDraft:
    """A statement to keep. `document` holds no floats; `key` makes it happen once.

    Attributes:
        meters: what was used, per meter in the contract's order and in base units; billing only sums them up.
    """

    key: str
    document: dict[str, Any]
    meters: tuple[int, ...] = ()


@transaction.atomic
def record_statements(*, drafts: Sequence[StatementDraft], now: datetime) -> None:
    """Store the statements; the next epoch to close commits to them. All or none; the same again changes nothing.

    Raises:
        IdempotencyConflict: a key was used before for another document.
        TypeError: a document holds a float.
    """
    rows: dict[str, UsageStatement] = {}
    documents: dict[str, UsageDocument] = {}
    for draft in drafts:
        text = canonical_json(draft.document)
        row = _row(draft, sha256_hex(text), now)
        documents[row.sha256] = UsageDocument(sha256=row.sha256, text=text.decode())
        if rows.setdefault(row.key, row).sha256 != row.sha256:
            raise IdempotencyConflict(f"The statement {row.key} comes twice with different contents.")
    UsageDocument.objects.bulk_create(documents.values(), batch_size=BATCH, ignore_conflicts=True)
    UsageStatement.objects.bulk_create(rows.values(), batch_size=BATCH, ignore_conflicts=True)
    keys = list(rows)
    for start in range(0, len(keys), BATCH):
        stored = UsageStatement.objects.filter(key__in=keys[start : start + BATCH]).values_list("key", "sha256")
        changed = [key for key, sha256 in stored if rows[key].sha256 != sha256]
        if changed:
            raise IdempotencyConflict(f"The statement {changed[0]} was recorded before with another content.")


def _row(draft: StatementDraft, sha256: str, now: datetime) -> UsageStatement:
    meters = " ".join(map(str, draft.meters))
    return UsageStatement(key=draft.key, sha256=sha256, meters=meters, created_at=now)
