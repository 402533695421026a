"""Fill an empty site's database with the cast and something on every page, then print what a browser needs.

Run as a program in the site's own environment, so that the test process never touches the site's database:
`python -m interchain_site.testing.seed` prints JSON `{"sessions": {person: cookie}, "arguments": {url name: [...]}}`.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

import django


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "interchain_site.settings")
    django.setup()
    from django.test import Client

    from interchain_site.testing.cast import make_cast

    cast = make_cast()
    sessions = {}
    for name in asdict(cast):
        client = Client()
        client.force_login(getattr(cast, name))
        sessions[name] = client.cookies["sessionid"].value
    sys.stdout.write(json.dumps({"sessions": sessions, "arguments": {}}))


if __name__ == "__main__":
    main()
