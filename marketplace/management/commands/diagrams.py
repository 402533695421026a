"""`manage.py diagrams`: write docs/states.md from the state tables."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from marketplace import diagrams


class Command(BaseCommand):
    help = "Write docs/states.md from the state tables in the code; --check only says whether it is current."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        path = settings.BASE_DIR / "docs" / "states.md"
        current = path.read_text() if path.exists() else ""
        if options["check"]:
            if current != diagrams.page():
                raise SystemExit("docs/states.md is stale. Run: python manage.py diagrams")
            return
        path.write_text(diagrams.page())
        self.stdout.write(f"Written: {path}")
