"""`manage.py prepare_site`: database, contracts and the operator's account in one go; bin/run calls it at each start."""

from __future__ import annotations

import json
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from interchain_site.local import seed


class Command(BaseCommand):
    help = (
        "Migrate, deploy the contracts where they are missing, make the operator's account. Prints the account as JSON."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        call_command("deploy_contracts", stdout=self.stderr)
        self.stdout.write(json.dumps({"operator": [seed.operator()]}))
