"""One epoch of 10,000 payees and 100,000 usage statements: computed, proven and posted; CPU seconds and memory.

`python bench/settle/run.py [--payees N] [--statements N] [--postgres] [--rounds N]` fills a new database, then does the epoch in a
process of its own, on a real Anvil. `--write` puts the table into `bench/results/settle.md`. See README.md beside this file.
Longer than 300 lines because it is one story, from an empty database to an epoch on the chain.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))
NTC = 10**9


def main() -> None:
    asked = _arguments()
    if asked.step:
        _django()
        {"fill": fill, "settle": settle}[asked.step](asked)
        return
    from interchain_site.testing.anvil import anvil

    results = []
    for _ in range(asked.rounds):
        with tempfile.TemporaryDirectory() as folder, _database(asked.postgres) as database, anvil() as node:
            environment = {**_environment(Path(folder), node.url), **database}
            _child("fill", asked, environment)
            results.append(json.loads(_child("settle", asked, environment)))
    text = _table(results, asked)
    print(text)
    if asked.write:
        _write(text, asked)


def fill(asked: argparse.Namespace) -> None:
    """Contracts, owners with wallets and an earlier epoch, matured earnings, statements as charging writes them."""
    import secrets

    from django.core.management import call_command
    from django.utils import timezone

    from billing.chain import client, keys
    from billing.models import Wallet, WalletProof
    from billing.services import accounts, contracts, ledger, rounds, settlement, statements
    from interchain_site.core.models import User

    call_command("migrate", verbosity=0)
    now = timezone.now()
    chain = client.connect()
    contracts.deploy(chain=chain, now=now)
    people = User.objects.bulk_create(
        [User(email=f"owner{n}@example.com") for n in range(asked.payees)], batch_size=2_000
    )
    Wallet.objects.bulk_create(
        [
            Wallet(
                user=person,
                address=keys.checksummed("0x" + secrets.token_hex(20)),
                proof=WalletProof.CONFIRMED,
                created_at=now,
                linked_at=now,
                trusted_from=now,
            )
            for person in people
        ],
        batch_size=2_000,
    )
    escrow = accounts.platform_account("escrow")
    earned = accounts.user_accounts([(person.pk, accounts.EARNINGS_AVAILABLE) for person in people])
    for epoch in (1, 2):
        postings = [
            ledger.Posting(
                f"earned:{epoch}:{pk}", "bench", (ledger.Line(escrow, -NTC - n), ledger.Line(pk, NTC + n)), now
            )
            for n, pk in enumerate(earned.values())
        ]
        ledger.post(postings=postings, now=now)
        if epoch == 1:
            assert settlement.close_epoch(now=now)
            for _ in range(3):
                rounds.run(now=now, chain=chain)
    for start in range(0, asked.statements, 5_000):
        drafts = [
            statements.StatementDraft(f"charge:{n}", _document(n), meters=(n, n, n, n, 0))
            for n in range(start, min(start + 5_000, asked.statements))
        ]
        statements.record_statements(drafts=drafts, now=now)


def _document(number: int) -> dict[str, object]:
    """As large as those of charging."""
    meters = {"transfer": number, "storage": number, "compute": number, "uptime": number, "active_user": 0}
    identity = f"{number:08x}-0000-4000-8000-000000000000"
    readings = {meter: {"before": identity, "now": identity, "method": "clock", "capped": False} for meter in meters}
    names = ("lease_id", "device_id", "deployment_id")
    sums = dict.fromkeys(("baseline", "before", "totals", "used"), meters)
    prices = {
        "nano_usd_per_unit": meters,
        "base_units_per_unit": meters,
        "sha256": "ab" * 32,
        "region": "us",
        "version": 1,
    }
    return {
        "key": f"charge:{number}",
        **dict.fromkeys(names, identity),
        **sums,
        "readings": readings,
        "price_list": prices,
    }


def settle(asked: argparse.Namespace) -> None:
    """The measured part, printed as JSON."""
    from django.conf import settings
    from django.db import connection
    from django.utils import timezone

    from billing import settlement_queries as queries
    from billing.chain import client
    from billing.chain.merkle import payout_leaf, statement_leaf
    from billing.models import UsageStatement, Wallet
    from billing.services import settlement

    chain, now = client.connect(), timezone.now()
    connection.ensure_connection()
    gc.freeze()  # as in every worker (interchain_site/celery.py)
    settings.DEBUG = False  # as in production: with it, Django keeps every query in memory
    found: dict[str, float] = {"base_mb": _peak_mb()}

    started, wall = time.process_time(), time.perf_counter()
    epoch = settlement.close_epoch(now=now)
    assert epoch is not None
    found["build"] = time.process_time() - started

    started = time.process_time()
    units = queries.cumulative_by_wallet(epoch.sequence)
    for pk, address in Wallet.objects.values_list("id", "address").iterator():
        queries.payout_proof(epoch, address=address, cumulative=units[pk])
        payout_leaf(address, units[pk])
    found["prove_payees"] = time.process_time() - started

    started = time.process_time()
    for sha256 in UsageStatement.objects.filter(epoch=epoch).values_list("sha256", flat=True).iterator():
        queries.usage_proof(epoch, leaf=statement_leaf(sha256))
    found["prove_statements"] = time.process_time() - started

    settings.DEBUG = True  # the development key signs
    started = time.process_time()
    epoch = settlement.post_epoch(epoch_id=epoch.pk, chain=chain, now=now)
    found["post"] = time.process_time() - started
    found["wall"] = time.perf_counter() - wall
    found["peak_mb"] = _peak_mb()
    give_up_at = time.monotonic() + 10
    while (receipt := chain.receipt(epoch.posting.hash)) is None and time.monotonic() < give_up_at:
        time.sleep(0.05)
    assert receipt is not None
    assert receipt.succeeded
    found["gas"] = receipt.gas_used
    print(json.dumps(found))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _django() -> None:
    import django

    django.setup()


def _child(step: str, asked: argparse.Namespace, environment: dict[str, str]) -> str:
    words = [
        sys.executable,
        __file__,
        "--step",
        step,
        "--payees",
        str(asked.payees),
        "--statements",
        str(asked.statements),
    ]
    if asked.profile and step == "settle":
        words[1:1] = ["-m", "cProfile", "-s", "tottime"]
    if asked.realtime and step == "settle":
        words[:0] = ["chrt", "-r", "10"]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    if asked.profile and step == "settle":
        print(done.stdout[:6_000])
        return next(line for line in done.stdout.splitlines() if line.startswith("{"))
    return done.stdout


def _environment(folder: Path, rpc: str) -> dict[str, str]:
    ours = {
        "DJANGO_SETTINGS_MODULE": "interchain_site.settings",
        "INTERCHAIN_ENV_FILE": "/dev/null",
        "DEBUG": "1",
        "SECRET_KEY": "bench",
        "LOG_LEVEL": "WARNING",
        "FIELD_ENCRYPTION_KEYS": "dGVzdHMtb25seS1rZXktdGVzdHMtb25seS1rZXktISE=",
        "DATA_DIR": str(folder),
        "ETHEREUM_RPC_URL": rpc,
        "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
        "PYTHONPATH": str(ROOT),
    }
    return {**os.environ, **ours}


@contextmanager
def _database(is_postgres: bool) -> Iterator[dict[str, str]]:
    if not is_postgres:
        yield {}
        return
    from interchain_site.local import postgres

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the server runs as another user when this is root
        with postgres.cluster(Path(folder) / "pg") as url:
            yield {"DATABASE_URL": url}


def _table(results: list[dict[str, float]], asked: argparse.Namespace) -> str:
    steps = {"build": "close the epoch: ledger, leaves, both roots", "prove_payees": f"prove all {asked.payees:,} payees",
             "prove_statements": f"prove all {asked.statements:,} statements", "post": "sign, store and send"}  # fmt: skip
    lines = [
        "| step | " + " | ".join(f"run {n}" for n in range(1, len(results) + 1)) + " |",
        "|---" * (len(results) + 1) + "|",
    ]
    for name, words in steps.items():
        lines.append(f"| {words} | " + " | ".join(f"{one[name]:.2f} s" for one in results) + " |")
    totals = [sum(one[name] for name in steps) for one in results]
    lines.append("| **CPU of this process** | " + " | ".join(f"**{total:.2f} s**" for total in totals) + " |")
    lines.append("| wall clock | " + " | ".join(f"{one['wall']:.2f} s" for one in results) + " |")
    lines.append("| memory at its highest | " + " | ".join(f"{one['peak_mb']:.0f} MB" for one in results) + " |")
    lines.append(
        "| of it before the epoch (Python, Django, web3) | "
        + " | ".join(f"{one['base_mb']:.0f} MB" for one in results)
        + " |"
    )
    lines.append("| gas | " + " | ".join(f"{one['gas']:,.0f}" for one in results) + " |")
    return "\n".join(lines)


def _write(text: str, asked: argparse.Namespace) -> None:
    """Replace this database's section of the results."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    priority = (
        ", measured with real-time priority (chrt -r 10) on a machine busy with other things" if asked.realtime else ""
    )
    name = "PostgreSQL" if asked.postgres else "SQLite"
    path = ROOT / "bench" / "results" / "settle.md"
    sections = path.read_text().split("\n## ") if path.exists() else [_HEAD]
    kept = [section for section in sections[1:] if not section.startswith(name)]
    here = (
        f"{name}\n\n{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip()}, {_machine()}{priority}.\n\n{text}\n"
    )
    path.write_text(
        "\n## ".join([sections[0].rstrip() + "\n", *sorted([*(one.rstrip() + "\n" for one in kept), here])])
    )


_HEAD = """# An epoch of 10,000 payees and 100,000 usage statements

`bench/settle/run.py`: how long one process computes to close, prove and post it on a local chain. Goal: at most 2 s of CPU and 200 MB.
"""


def _machine() -> str:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "",
    )
    return f"{model or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payees", type=int, default=10_000)
    parser.add_argument("--statements", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--realtime", action="store_true", help="measure with real-time priority, on a busy machine")
    parser.add_argument("--step", choices=["fill", "settle"], help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
