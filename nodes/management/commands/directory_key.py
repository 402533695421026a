"""`manage.py directory_key`: the key that signs the directory.

directory_key show                 the key in force
directory_key change               make the next one; the old one's records hold for another hour
directory_key change --stolen      the same, and the old one's records hold no longer; all are signed anew before it returns
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from nodes.services import directory, directory_keys


class Command(BaseCommand):
    help = "Shows or changes the key that signs the directory."

    def add_arguments(self, parser: ArgumentParser) -> None:
        steps = parser.add_subparsers(required=True, dest="step")
        steps.add_parser("show")
        change = steps.add_parser("change")
        change.add_argument("--stolen", action="store_true", help="what the old key signed no longer counts")

    def handle(self, *args: Any, step: str, stolen: bool = False, **options: Any) -> None:
        if step == "change":
            directory_keys.change(by=None, overlap_seconds=0 if stolen else directory_keys.OVERLAP_SECONDS)
            while directory.sweep():
                pass
        self.stdout.write(f"The directory is signed by {directory_keys.in_force().public_key}.")
