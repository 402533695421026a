"""`manage.py reconcile`: compare ledger, contracts and Stripe, and print what was found. Exit code 1 when they differ."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from billing.chain import client
from billing.services import reconcile
from billing.states import ReconcileOutcome
from interchain_site.core.errors import DomainError


class Command(BaseCommand):
    help = "Compare ledger, contracts and Stripe. A difference blocks payments out until a run is clean."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            chain, unread = client.connect(), ""
        except DomainError as error:
            chain, unread = None, error.message
        made = reconcile.run(now=timezone.now(), chain=chain, unread=unread)
        self.stdout.write(reconcile.report(made))
        if made.outcome != ReconcileOutcome.CLEAN:
            raise CommandError(
                "The books differ." if made.outcome == ReconcileOutcome.DIFFERENCE else "Not everything could be read.",
                returncode=1 if made.outcome == ReconcileOutcome.DIFFERENCE else 3,
            )
