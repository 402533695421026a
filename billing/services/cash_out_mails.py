"""What a person hears by e-mail about a cash-out: on its way with the arrival date, arrived, or back with the reason."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string
from django.urls import reverse

from billing.models import CashOut
from billing.states import CashOutState

TOLD = (CashOutState.ON_THE_WAY, CashOutState.PAID, CashOutState.FAILED, CashOutState.REFUSED)


def tell(*, cash_out_id: UUID, now: datetime) -> bool:
    """Send the message for the state a cash-out is in, if it was not sent yet; returns whether it was sent now.

    The row stays locked while the message goes out, so two workers send one; a crash in between sends it again.
    """
    with transaction.atomic():
        found = CashOut.objects.select_for_update(of=("self",)).select_related("user").filter(pk=cash_out_id)
        cash_out = found.filter(state__in=TOLD).first()
        if cash_out is None or cash_out.told == cash_out.state:
            return False
        page = settings.PORTAL_URL + reverse("cash_out_detail", args=[cash_out.pk])
        text = render_to_string(f"billing/emails/cash_out_{cash_out.state}.txt", {"cash_out": cash_out, "page": page})
        subject, _, body = text.strip().partition("\n")
        EmailMessage(subject, body.strip() + "\n", to=[cash_out.user.email]).send()
        cash_out.told = cash_out.state
        cash_out.save(update_fields=["told"])
    return True
