"""`manage.py load_price_lists`: publish Table 3 as the United States list, unless it is there."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from marketplace.services import price_lists


class Command(BaseCommand):
    help = "Load the launch price list (Table 3). Safe to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"In place: {price_lists.load_table_3()}")
