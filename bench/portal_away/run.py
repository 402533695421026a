"""Take Redis, PostgreSQL, the portal and all of them away from a running site, for ten minutes each. See README.md."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.update(
    DJANGO_SETTINGS_MODULE="interchain_site.settings",
    DEBUG="1",
    INTERCHAIN_ENV_FILE=os.devnull,
    FIELD_ENCRYPTION_KEYS="dGVzdHMtb25seS1rZXktdGVzdHMtb25seS1rZXktISE=",
)

from interchain_site.testing import outage  # noqa: E402

CHOICES = {**{part: (part,) for part in ("redis", "postgres", "portal")}, "all": outage.PARTS}
# As in production; only what the reader waits for at the end is short.
SETTINGS = {"EPOCH_SECONDS": "60", "EARNINGS_HOLD_SECONDS": "3", "READING_INTERVAL_SECONDS": "30"}
SLACK_MS = 60_000  # two readings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--parts", nargs="+", choices=CHOICES, default=list(CHOICES))
    asked = parser.parse_args()
    with outage.running(SETTINGS, usd="9000", pause_seconds=1.0) as running:
        for name in asked.parts:
            result = outage.go_through(running, CHOICES[name], asked.seconds, slack_ms=SLACK_MS)
            print(json.dumps(dataclasses.asdict(result)), flush=True)
        closed = outage.close_the_bill(running)
        print(json.dumps({name: str(value) for name, value in closed.items()}))


if __name__ == "__main__":
    main()
