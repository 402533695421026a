"""`manage.py take_reserves`: take a reserve snapshot now, whatever the schedule says."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from billing import money
from billing.chain import client
from billing.services import reserves
from interchain_site.core.errors import DomainError


class Command(BaseCommand):
    help = "Take a snapshot of what everybody is owed and what the Settlement contract holds."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            snapshot = reserves.take_snapshot(now=timezone.now(), chain=client.connect())
        except DomainError as error:
            raise CommandError(error.message) from error
        self.stdout.write(
            f"Root {snapshot.root}\nOwed to people {money.format_ntc(snapshot.people_units)}\n"
            f"The contract holds {money.format_ntc(snapshot.contract_units or 0)} at block {snapshot.block_number}"
        )
