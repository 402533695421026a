"""`manage.py confirm_routes`: let the gateways take a table of routes from which many apps vanished at once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from nodes.services import gateways


class Command(BaseCommand):
    help = "Says that the smaller table of routes is right; gateways stop serving what vanished from it."

    def handle(self, *args: Any, **options: Any) -> None:
        number = gateways.confirm(by=None)
        self.stdout.write(f"Confirmed. Gateways held {number} routes; they let go of them now.")
