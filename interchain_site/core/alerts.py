"""Tell staff that something needs a person: a row in the admin, and one e-mail.

Whoever finds the trouble raises the alert each time it finds it, and clears it when it finds it gone; so nobody has to
tick anything off, and what is shown is true. An alert never stops work by itself.
"""

from __future__ import annotations

import smtplib
from datetime import datetime, timedelta
from functools import partial

import structlog
from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.utils import timezone

from interchain_site.core.models import StaffAlert, User

log = structlog.get_logger(__name__)


def raise_alert(*, code: str, message: str, mend: str, subject: str = "", patience_seconds: int = 0) -> StaffAlert:
    """Say that something is wrong; while it lasts, the same row is kept up to date and staff are mailed once.

    Args:
        code: short stable name of the kind of trouble.
        message: what is wrong, in a sentence.
        mend: what to do about it, in a sentence.
        subject: what it is about, where there can be several at once.
        patience_seconds: mail only if it lasts so long; for what often passes by itself.
    """
    now = timezone.now()
    with transaction.atomic():
        alert, new = StaffAlert.objects.get_or_create(
            code=code,
            subject=subject,
            cleared_at=None,
            defaults={"message": message, "mend": mend, "opened_at": now, "seen_at": now},
        )
        if new:
            log.warning("staff_alert", code=code, subject=subject, message=message)
        else:
            alert.message, alert.mend, alert.seen_at = message, mend, now
            alert.save(update_fields=["message", "mend", "seen_at"])
        if alert.mailed_at is None and now - alert.opened_at >= timedelta(seconds=patience_seconds):
            transaction.on_commit(partial(_mail, alert.pk, now), robust=True)
    return alert


def clear_alert(*, code: str, subject: str | None = "") -> int:
    """Say that it is over; harmless when there was nothing. `subject=None` clears every subject's. Returns how many."""
    standing = StaffAlert.objects.standing().filter(code=code)
    if subject is not None:
        standing = standing.filter(subject=subject)
    return standing.update(cleared_at=timezone.now())


def _mail(alert_id: int, now: datetime) -> None:
    """Write to all staff, claimed by compare-and-set. Mail that cannot be sent now is tried at the next raise."""
    if StaffAlert.objects.filter(pk=alert_id, mailed_at=None).update(mailed_at=now) != 1:
        return
    alert = StaffAlert.objects.get(pk=alert_id)
    people = list(User.objects.filter(is_staff=True, is_active=True).values_list("email", flat=True))
    link = f"{settings.PORTAL_URL}/admin/core/staffalert/"
    text = f"{alert.message}\n\nWhat to do: {alert.mend}\n\nAll that needs a person: {link}\n"
    try:
        for person in people:
            send_mail(
                f"Interchain needs you: {alert.code.replace('_', ' ')}", text, settings.DEFAULT_FROM_EMAIL, [person]
            )
    except (OSError, smtplib.SMTPException) as error:
        StaffAlert.objects.filter(pk=alert_id).update(mailed_at=None)
        log.error("staff_alert_not_mailed", code=alert.code, error=type(error).__name__)
