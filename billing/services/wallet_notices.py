"""Tell a person by e-mail that an address was added to their account, with a way to stop it."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string
from django.urls import reverse

from billing.models import Wallet
from billing.services import wallets

log = structlog.get_logger(__name__)
WITHIN = timedelta(days=2)
BATCH = 100


def send_due(*, now: datetime) -> int:
    """Send the notices that were not sent yet; returns how many went out. One that fails does not stop the others."""
    waiting = Wallet.objects.filter(told_at=None, stopped_at=None, linked_at__gt=now - WITHIN)
    return sum(_try(pk, now) for pk in waiting.order_by("linked_at").values_list("pk", flat=True)[:BATCH])


def send(*, wallet_id: int, now: datetime) -> bool:
    """Tell the person about an address, once; returns whether it was sent now.

    The row stays locked while the message goes out, so two workers send one; a crash in between sends it again.
    """
    with transaction.atomic():
        found = Wallet.objects.select_for_update(of=("self",)).select_related("user")
        wallet = found.filter(pk=wallet_id, told_at=None, stopped_at=None).first()
        if wallet is None:
            return False
        link = settings.PORTAL_URL + reverse("wallet_stop", args=[wallets.stop_token(wallet)])
        context = {"wallet": wallet, "user": wallet.user, "link": link, "now": now}
        subject, _, body = render_to_string("billing/emails/address.txt", context).strip().partition("\n")
        EmailMessage(subject, body.strip() + "\n", to=[wallet.user.email]).send()
        Wallet.objects.filter(pk=wallet.pk).update(told_at=now)
    return True


def _try(pk: int, now: datetime) -> int:
    try:
        return int(send(wallet_id=pk, now=now))
    except OSError as error:
        log.warning("address_notice_not_sent", wallet=pk, error=type(error).__name__)
        return 0
