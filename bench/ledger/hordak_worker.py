"""django-hordak's side: reads a count per line, makes that many transfers one by one, prints the seconds of each.

Runs in the environment of requirements-hordak.txt: `python hordak_worker.py postgres://…`.
"""

from __future__ import annotations

import random
import sys
import time

import dj_database_url
import django
from django.conf import settings


def main() -> None:
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "mptt", "djmoney", "hordak"],
        DATABASES={"default": dj_database_url.parse(sys.argv[1])},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        SECRET_KEY="bench",
    )
    django.setup()
    from django.core.management import call_command
    from hordak.models import Account, AccountType
    from moneyed import Money

    call_command("migrate", verbosity=0)
    accounts = [
        Account.objects.create(name=f"a{n}", code=str(n), type=AccountType.liability, currencies=["USD"])
        for n in range(100)
    ]
    print("ready", flush=True)
    for line in sys.stdin:
        taken = []
        for _ in range(int(line)):
            source, target = random.sample(accounts, 2)
            started = time.perf_counter()
            source.transfer_to(target, Money(1, "USD"))
            taken.append(time.perf_counter() - started)
        print(*taken, flush=True)


if __name__ == "__main__":
    main()
