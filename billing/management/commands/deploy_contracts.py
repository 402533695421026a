"""`manage.py deploy_contracts`: make sure the contracts are on the chain; run it as often as you like."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from billing.chain import client
from billing.services import contracts
from interchain_site.core.errors import DomainError


class Command(BaseCommand):
    help = "Deploy the token, its sale, the founders' vault, Settlement and their timelock if they are not there yet."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            deployment = contracts.deploy(chain=client.connect(), now=timezone.now())
        except DomainError as error:
            raise CommandError(error.message) from error
        for name, value in asdict(deployment).items():
            self.stdout.write(f"{name.replace('_', ' ')}: {value}")
