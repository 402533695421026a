"""`manage.py seed_demo`: demo accounts, rate, wallet, card payment, apps. As often as you like; only under DEBUG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from interchain_site.core.errors import DomainError
from interchain_site.local import seed
from interchain_site.local.web import PageError

PARTS = ("people", "devices", "balance", "apps")


class Command(BaseCommand):
    help = "Make the demo data, or the parts named; what exists stays as it is. Prints JSON for tools."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("part", nargs="*", help="default: all but devices, which bin/run enrols")
        parser.add_argument("--archives", type=Path, default=settings.DATA_DIR / "images", help="`docker save` files")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("The demo accounts have well-known passwords: seed_demo works only with DEBUG=1.")
        wanted = options["part"] or [part for part in PARTS if part != "devices"]
        if unknown := set(wanted) - set(PARTS):
            raise CommandError(f"No such part: {', '.join(sorted(unknown))}. There are: {', '.join(PARTS)}.")
        makers = {**{part: getattr(seed, part) for part in PARTS}, "apps": lambda: seed.apps(options["archives"])}
        try:
            made = {part: makers[part]() for part in wanted}
        except (DomainError, PageError, TimeoutError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(json.dumps(made))
