"""`manage.py link_key`: the key by which the portal proves itself to devices.

link_key show      the key in force
link_key change    make the next one, named by the old; devices follow when they link again
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from nodes.services import link_keys


class Command(BaseCommand):
    help = "Shows or changes the key by which the portal proves itself to devices."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("step", choices=["show", "change"])

    def handle(self, *args: Any, step: str, **options: Any) -> None:
        key = link_keys.change(by=None) if step == "change" else link_keys.in_force()
        self.stdout.write(f"The portal proves itself to devices with {key.public_key}.")
