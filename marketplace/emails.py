"""Messages to publishers about their balance: rows first, then e-mail, each sent once."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.core.mail import get_connection, send_mail
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone

from interchain_site.core.models import User
from marketplace.models import Notice

MOST_UNSENT = 20_000

log = structlog.get_logger(__name__)


def owe(*, key: str, user: User, template: str, subject: str, now: datetime, **context: Any) -> None:
    """Write down a message and have it sent after commit; the same key again is the same message."""
    body = render_to_string(
        f"marketplace/emails/{template}.txt", {**context, "portal_url": settings.PORTAL_URL, "person": user}
    )
    notice, created = Notice.objects.get_or_create(
        key=key, defaults={"user": user, "subject": subject, "body": body.strip() + "\n", "created_at": now}
    )
    if created:
        from marketplace.tasks import send_notice  # tasks import this module

        transaction.on_commit(lambda: send_notice.delay(notice.pk), robust=True)


def send(*, notice_id: int, now: datetime | None = None) -> bool:
    """Send one message unless it was sent; returns whether this call sent it. Claimed by compare-and-set."""
    notice = Notice.objects.select_related("user").filter(pk=notice_id, sent_at=None).first()
    return notice is not None and _send(notice, now=now or timezone.now())


def send_many(*, notice_ids: Collection[int]) -> int:
    """Send those of these messages that are still owed, over one connection; returns how many. What fails is logged and owed as before."""
    sent = 0
    notices = Notice.objects.select_related("user").filter(pk__in=notice_ids, sent_at=None).order_by("created_at")
    with get_connection() as connection:
        for notice in notices:
            try:
                sent += _send(notice, now=timezone.now(), connection=connection)
            except OSError as error:
                log.warning("notice_not_sent", notice=notice.pk, error=str(error))
    return sent


def unsent(*, before: datetime) -> list[int]:
    """Return the ids of messages that the queue seems to have lost, oldest first."""
    lost = Notice.objects.filter(sent_at=None, created_at__lt=before).order_by("created_at")
    return list(lost.values_list("pk", flat=True)[:MOST_UNSENT])


def _send(notice: Notice, *, now: datetime, connection: BaseEmailBackend | None = None) -> bool:
    if Notice.objects.filter(pk=notice.pk, sent_at=None).update(sent_at=now) != 1:
        return False
    subject, sender, to = f"Interchain: {notice.subject}", settings.DEFAULT_FROM_EMAIL, [notice.user.email]
    try:
        send_mail(subject, notice.body, sender, to, connection=connection)
    except Exception:
        Notice.objects.filter(pk=notice.pk).update(sent_at=None)
        raise
    return True
