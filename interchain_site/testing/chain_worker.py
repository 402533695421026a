"""A chain worker for browser tests: deploys the contracts, then does a round every half second until it is ended.

Run as a program in the site's own environment: `python -m interchain_site.testing.chain_worker <e-mail> <NTC>` also gives that
person so many NTC to spend, from the desk's stock.
"""

from __future__ import annotations

import os
import sys
import time

import django

NTC = 10**9
EVERY_SECONDS = 0.5


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "interchain_site.settings")
    django.setup()
    from django.utils import timezone

    from billing.chain import client
    from billing.services import contracts, rounds, wallet_notices, wallets, withdrawals

    chain = client.connect()
    contracts.deploy(chain=chain, now=timezone.now())
    given = False
    while True:
        now = timezone.now()
        for trouble in rounds.run(now=now, chain=chain):
            sys.stderr.write(f"{trouble}\n")
        wallets.activate_due(now=now)
        withdrawals.sweep(now=now)
        wallet_notices.send_due(now=now)
        given = given or give(sys.argv[1], int(sys.argv[2]))
        time.sleep(EVERY_SECONDS)


def give(email: str, ntc: int) -> bool:
    """Give a person NTC to spend, once the desk has them."""
    from django.utils import timezone

    from billing.queries import platform_balance
    from billing.services import accounts, ledger
    from interchain_site.core.models import User

    if platform_balance("desk_inventory") < ntc * NTC:
        return False
    to = accounts.user_account(User.objects.get(email=email).pk, accounts.AVAILABLE)
    lines = (ledger.Line(accounts.platform_account("desk_inventory"), -ntc * NTC), ledger.Line(to, ntc * NTC))
    ledger.post(postings=[ledger.Posting("given", "test", lines, timezone.now())], now=timezone.now())
    return True


if __name__ == "__main__":
    main()
