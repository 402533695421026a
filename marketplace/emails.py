"""Messages to publishers about their balance: rows first, then e-mail, each sent once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone

from interchain_site.core.models import User
from marketplace.models import Notice


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
    now = now or timezone.now()
    if Notice.objects.filter(pk=notice_id, sent_at=None).update(sent_at=now) != 1:
        return False
    notice = Notice.objects.select_related("user").get(pk=notice_id)
    try:
        send_mail(f"Interchain: {notice.subject}", notice.body, settings.DEFAULT_FROM_EMAIL, [notice.user.email])
    except Exception:
        Notice.objects.filter(pk=notice_id).update(sent_at=None)
        raise
    return True


def unsent(*, before: datetime) -> list[int]:
    """Return the ids of messages that the queue seems to have lost."""
    return list(Notice.objects.filter(sent_at=None, created_at__lt=before).values_list("pk", flat=True)[:200])
