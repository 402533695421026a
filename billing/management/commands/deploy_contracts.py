"""`manage.py deploy_contracts`: make sure the contracts are on the chain; run it as often as you like."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from billing.chain import client
from billing.services import contracts
from interchain_site.core.errors import DomainError


class Command(BaseCommand):
    help = "Deploy Intercoin and Settlement if they are not there yet, and record where they are."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            deployment = contracts.deploy(chain=client.connect(), now=timezone.now())
        except DomainError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"Intercoin {deployment.intercoin}\nSettlement {deployment.settlement}")
