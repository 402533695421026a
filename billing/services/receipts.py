"""What a buyer gets by e-mail: the receipt once the NTC is there, or why the money went back."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string

from billing.models import Payment, SalePurchase


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
        page = settings.PORTAL_URL + payment.get_absolute_url()
        text = render_to_string(
            "billing/emails/receipt.txt", {"payment": payment, "rate": payment.quote.rate, "page": page}
        )
        subject, _, body = text.strip().partition("\n")
        EmailMessage(subject, body.strip() + "\n", to=[payment.user.email]).send()
        payment.receipt_sent_at = now
        payment.save(update_fields=["receipt_sent_at"])
    return True


def tell_paid_back(*, purchase_id: UUID, now: datetime) -> bool:
    """Tell the buyer of the token sale once that a card payment went back before any NTC came; returns whether a mail went.

    When a bank took the money by a dispute, the cardholder knows: no mail.
    """
    with transaction.atomic():
        purchase = (
            SalePurchase.objects.select_for_update(of=("self",))
            .select_related("user", "payment", "sale_round")
            .filter(pk=purchase_id, told_at=None)
            .first()
        )
        if purchase is None or purchase.payment is None or purchase.user is None:
            return False
        mailed = purchase.payment.refunded_cents > 0
        if mailed:
            page = settings.PORTAL_URL + purchase.get_absolute_url()
            context = {"purchase": purchase, "payment": purchase.payment, "page": page}
            text = render_to_string("billing/emails/sale_paid_back.txt", context)
            subject, _, body = text.strip().partition("\n")
            EmailMessage(subject, body.strip() + "\n", to=[purchase.user.email]).send()
        purchase.told_at = now
        purchase.save(update_fields=["told_at"])
    return mailed
