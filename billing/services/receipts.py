"""The receipt a buyer gets by e-mail once the NTC is there."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string
from django.urls import reverse

from billing.models import Payment


def send_receipt(*, payment_id: UUID, now: datetime) -> bool:
    """Send a credited payment's receipt if it was not sent yet; returns whether it was sent now.

    The row stays locked while the message goes out, so two workers send one; a crash in between sends it again.
    """
    with transaction.atomic():
        payment = (
            Payment.objects.select_for_update(of=("self",))
            .select_related("user")
            .filter(pk=payment_id, receipt_sent_at=None)
            .exclude(credited_at=None)
            .first()
        )
        if payment is None:
            return False
        page = settings.PORTAL_URL + reverse("payment_detail", args=[payment.pk])
        text = render_to_string(
            "billing/emails/receipt.txt", {"payment": payment, "rate": payment.quote.rate, "page": page}
        )
        subject, _, body = text.strip().partition("\n")
        EmailMessage(subject, body.strip() + "\n", to=[payment.user.email]).send()
        payment.receipt_sent_at = now
        payment.save(update_fields=["receipt_sent_at"])
    return True
