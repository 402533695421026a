"""Write the audit trail: every service that changes something calls `record` inside its transaction."""

from __future__ import annotations

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
    return AuditEvent.objects.create(
        at=timezone.now(), by=by, actor=f"user:{by.pk}" if by else actor, action=action, subject=subject, data=data
    )
