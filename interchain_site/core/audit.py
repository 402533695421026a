"""Write the audit trail: every service that changes something calls `record` inside its transaction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils import timezone

from interchain_site.core.models import AuditEvent, User


def record(action: str, *, subject: str, by: User | None = None, actor: str = "system", **data: Any) -> AuditEvent:
    """Store one audit row.

    Args:
        action: past tense, e.g. `lease_opened`.
        subject: `kind:id` of what changed.
        by: the person; leave empty for machines and name them in `actor`.
        data: what a reader needs to understand it; never a secret.
    """
    found = event(action, subject=subject, by=by, actor=actor, **data)
    found.save(force_insert=True)
    return found


def event(action: str, *, subject: str, by: User | None = None, actor: str = "system", **data: Any) -> AuditEvent:
    """Return an audit row for `record_many`; the arguments are those of `record`."""
    actor = f"user:{by.pk}" if by else actor
    return AuditEvent(at=timezone.now(), by=by, actor=actor, action=action, subject=subject, data=data)


def record_many(events: Iterable[AuditEvent]) -> None:
    """Store audit rows in one statement."""
    AuditEvent.objects.bulk_create(events)
