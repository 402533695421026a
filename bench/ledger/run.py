"""Postings per second: the ledger's post() against bare set-based SQL and django-hordak, interleaved on one PostgreSQL.

`DATABASE_URL=postgres://…/an_empty_database python bench/ledger/run.py [--hordak-python PATH] [--rounds N]` writes
`bench/results/ledger-<date>.md` and prints it. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "interchain_site.settings")
os.environ.setdefault("INTERCHAIN_ENV_FILE", "/dev/null")
os.environ.setdefault("SECRET_KEY", "bench")
os.environ.setdefault("LOG_LEVEL", "WARNING")

ACCOUNTS, SINGLE, BATCH, BATCHES = 1000, 300, 1000, 10


class Ours:
    """post() with Django as in production: DEBUG off, the same settings."""

    def __init__(self) -> None:
        import django

        django.setup()
        from django.core.management import call_command

        from billing.models import Account
        from billing.services import accounts, ledger
        from interchain_site.core.models import User

        call_command("migrate", verbosity=0)
        people = User.objects.bulk_create([User(email=f"b{time.time_ns()}-{n}@example.com") for n in range(ACCOUNTS)])
        found = accounts.user_accounts([(person.pk, "available") for person in people])
        self.accounts, self.ledger = sorted(found.values()), ledger
        escrow, now = accounts.platform_account("escrow"), datetime.now(UTC)
        start = [
            ledger.Posting(f"start:{pk}", "bench", (ledger.Line(escrow, -(10**12)), ledger.Line(pk, 10**12)), now)
            for pk in self.accounts
        ]
        ledger.post(postings=start, now=now)
        assert Account.objects.get(pk=self.accounts[0]).balance == 10**12

    def post(self, moves: list[tuple[str, int, int, int]], now: datetime) -> None:
        line, posting = self.ledger.Line, self.ledger.Posting
        postings = [
            posting(key, "bench", (line(self.accounts[a - 1], -amount), line(self.accounts[b - 1], amount)), now)
            for key, a, b, amount in moves
        ]
        self.ledger.post(postings=postings, now=now)


class Hordak:
    def __init__(self, python: str, url: str) -> None:
        self.process = subprocess.Popen(
            [python, str(HERE / "hordak_worker.py"), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        assert self.process.stdout.readline().strip() == "ready"

    def run(self, count: int) -> list[float]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return [1 / float(seconds) for seconds in self.process.stdout.readline().split()]


def moves(count: int) -> list[tuple[str, int, int, int]]:
    found = []
    for _ in range(count):
        source, target = random.sample(range(1, ACCOUNTS + 1), 2)
        found.append((f"{time.time_ns()}:{random.getrandbits(60)}", source, target, random.randint(1, 1000)))
    return found


def timed(side: object, *, batch: int, turns: int) -> list[float]:
    """Return postings per second of each of `turns` calls of `batch` postings."""
    prepared = [moves(batch) for _ in range(turns)]
    now, found = datetime.now(UTC), []
    for one in prepared:
        started = time.perf_counter()
        side.post(one, now)  # type: ignore[attr-defined]
        found.append(batch / (time.perf_counter() - started))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hordak-python", default="", help="a Python with requirements-hordak.txt installed")
    parser.add_argument("--hordak-url", default="", help="an empty database of its own on the same PostgreSQL")
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    url = os.environ["DATABASE_URL"]
    from bare import Bare

    ours, bare = Ours(), Bare(url, ACCOUNTS)
    hordak = Hordak(asked.hordak_python, asked.hordak_url) if asked.hordak_python else None
    rows: list[dict[str, list[float]]] = []
    for number in range(asked.rounds + 1):
        row = {}
        sides = [("ours", ours), ("bare", bare)]
        for name, side in sides if number % 2 else reversed(sides):
            row[f"{name} single"] = timed(side, batch=1, turns=SINGLE)
            row[f"{name} batch"] = timed(side, batch=BATCH, turns=BATCHES)
        if hordak:
            row["hordak single"] = hordak.run(SINGLE)
        if number:  # the first round warms up
            rows.append(row)
    report = describe(rows, bare)
    target = ROOT / "bench" / "results" / f"ledger-{datetime.now(UTC):%Y-%m-%d}.md"
    target.write_text(report)
    print(report)


def describe(rows: list[dict[str, list[float]]], bare: object) -> str:
    def middle(name: str) -> float:
        return statistics.median(rate for row in rows for rate in row[name])

    def fastest(name: str) -> float:
        return max(rate for row in rows for rate in row[name])

    def cells(side: str) -> str:
        shown = [
            f"{f(f'{side} {size}'):,.0f}" if f"{side} {size}" in rows[0] else ""
            for size in ("single", "batch")
            for f in (middle, fastest)
        ]
        return " | ".join(shown)

    def ratio(one: str, other: str) -> str:
        by_round = sorted(statistics.median(row[one]) / statistics.median(row[other]) for row in rows)
        spread = f"{statistics.median(by_round):.2f} ({by_round[0]:.2f} to {by_round[-1]:.2f})"
        return f"{spread} | {fastest(one) / fastest(other):.2f}"

    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    show = {
        name: bare.db.execute(f"SHOW {name}").fetchone()[0]
        for name in ("server_version", "synchronous_commit", "data_directory")
    }  # type: ignore[attr-defined]
    urgent = ", at real-time priority" if os.sched_getscheduler(0) != os.SCHED_OTHER else ""
    disk = "memory (tmpfs)" if show["data_directory"].startswith("/dev/shm") else "disk"
    lines = [
        "# Ledger: postings per second",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit}, {os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f} while it ran{urgent},",
        f"Python {platform.python_version()}, PostgreSQL {show['server_version']} in {disk}, synchronous_commit {show['synchronous_commit']}.",
        f"{len(rows)} interleaved rounds; two entries per posting, {ACCOUNTS} accounts.",
        "",
        "| postings per second | single, median | single, fastest | batches of 1,000, median | batches of 1,000, fastest |",
        "|---|---|---|---|---|",
        f"| post() | {cells('ours')} |",
        f"| bare set-based SQL | {cells('bare')} |",
    ]
    if "hordak single" in rows[0]:
        lines.append(f"| django-hordak transfer_to | {cells('hordak')} |")
    lines += [
        "",
        "| ratio | by round: median (least to most) | of the fastest calls | wanted |",
        "|---|---|---|---|",
        f"| post() ÷ bare, batches of 1,000 | {ratio('ours batch', 'bare batch')} | ≥ 0.7 |",
        f"| post() ÷ bare, single | {ratio('ours single', 'bare single')} | |",
    ]
    if "hordak single" in rows[0]:
        lines.append(f"| post() ÷ django-hordak, single | {ratio('ours single', 'hordak single')} | ≥ 2 |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()
