"""What paying many costs in gas: Settlement against one transfer each and against a Disperse-style loop, on Anvil.

`python bench/gas/run.py [--payees 10 100 500 1000]` writes `bench/results/gas.md` and prints it. See README.md beside
this file.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

import local  # noqa: E402

from interchain_site.testing.anvil import anvil, anvil_program  # noqa: E402

RESULT = ROOT / "bench" / "results" / "gas.md"
GOAL_SETTLE, GOAL_CLAIM = 45_000, 55_000
# Payees in one transaction, below the limit of 16,777,216 gas.
BATCH = {"disperse": {True: 400, False: 1000}, "claim_many": {True: 200, False: 450}}


@dataclass(frozen=True)
class Row:
    """Gas of paying so many payees, all of them fresh (no NTC, never paid) or all existing."""

    payees: int
    fresh: bool
    levels: float  # of a proof, on average
    transfers: int
    disperse: int
    settle: int
    claim_many: int
    claims: int


def measure(chain: local.Chain, payees: int, luck: random.Random) -> list[Row]:
    """Pay the same crowd twice by each way; the first time they are fresh. Every way has a crowd of its own."""
    ntc = local.token(chain)
    loop = local.disperse(chain, ntc)
    crowds = [["0x" + luck.randbytes(20).hex() for _ in range(payees)] for _ in range(4)]
    funds = payees * 10**12
    relayed = local.escrow(chain, ntc, crowds[2], funds)
    pulled = local.escrow(chain, ntc, crowds[3], funds)
    rows = []
    for fresh in (True, False):
        amounts = [luck.randrange(10**9, 10**11) for _ in range(payees)]
        transfers = sum(
            chain.cost(ntc.transfer(to=to, amount=amount)) for to, amount in zip(crowds[0], amounts, strict=True)
        )
        step = BATCH["disperse"][fresh]
        dispersed = sum(
            chain.cost(loop.pay(ntc.address, crowds[1][start : start + step], amounts[start : start + step]))
            for start in range(0, payees, step)
        )
        pulled.settle(amounts)
        settle = relayed.settle(amounts)
        together = relayed.claim_many(BATCH["claim_many"][fresh])
        levels = statistics.mean(len(one.proof) for one in pulled.claimants())
        rows.append(Row(payees, fresh, levels, transfers, dispersed, settle, together, pulled.claim()))
    return rows


def report(rows: list[Row]) -> str:
    """Return the report in Markdown."""
    commit = _run("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    version = _run(anvil_program(), "--version").splitlines()[0]
    settle = max(row.settle for row in rows)
    again = [row for row in rows if not row.fresh]
    relayed = max(round(row.claim_many / row.payees) for row in again)
    alone = max(round(row.claims / row.payees) for row in again)
    lines = [
        "# Gas: paying many",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit}, {os.cpu_count()} cores ({platform.machine()}), {version}, hardfork osaka,",
        "limit of 16,777,216 gas per transaction. Real transactions: intrinsic gas and calldata are included. Written by `bench/gas/run.py`.",
        "",
        "Whole gas of paying everybody once:",
        "",
        "| payees | | one transfer each | Disperse-style loop | Settlement: post the epoch | + relayed claims (claimMany) | + own claims (claim) |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row.payees:,} | {_kind(row)} | {row.transfers:,} | {row.disperse:,} | {row.settle:,} "
            f"| {row.settle + row.claim_many:,} | {row.settle + row.claims:,} |"
            for row in rows
        ),
        "",
        "Gas per payee, the epoch's posting shared by all of them:",
        "",
        "| payees | | transfer | loop | posting | claimMany | claim |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row.payees:,} | {_kind(row)} | {row.transfers // row.payees:,} | {row.disperse // row.payees:,} "
            f"| {row.settle // row.payees:,} | {row.claim_many // row.payees:,} | {row.claims // row.payees:,} |"
            for row in rows
        ),
        "",
        "| goal | wanted | measured | |",
        "|---|---|---|---|",
        f"| posting an epoch, any number of payees, usage root and totals included | ≤ {GOAL_SETTLE:,} | {settle:,} | {_verdict(settle, GOAL_SETTLE)} |",
        f"| claiming again, relayed | ≤ {GOAL_CLAIM:,} | {relayed:,} | {_verdict(relayed, GOAL_CLAIM)} |",
        f"| claiming again, in a transaction of one's own | ≤ {GOAL_CLAIM:,} | {alone:,} | {_verdict(alone, GOAL_CLAIM)} |",
        "",
        *_reading(rows),
    ]
    return "\n".join(lines) + "\n"


def _reading(rows: list[Row]) -> list[str]:
    """Say how often a payee may be paid before it is dearer than a loop."""
    row = max((row for row in rows if not row.fresh), key=lambda row: row.payees)
    loop, relayed, own = row.disperse / row.payees, row.claim_many / row.payees, row.claims / row.payees
    return [
        "## How to read it",
        "",
        f"With {row.payees:,} payees, posting an epoch costs {row.settle / row.disperse:.2%} of paying it out by a loop. What an epoch",
        "posts can be claimed once for many epochs: amounts are cumulative.",
        "",
        f"- A relayed claim ({relayed:,.0f}) is cheaper than a loop's payment every epoch ({loop:,.0f}) when it settles at least "
        f"{-(-relayed // loop):.0f} epochs at once; a claim of one's own ({own:,.0f}) when it settles at least {-(-own // loop):.0f}.",
        "- The payer pays for transfers, the loop and relayed claims; the payee for a claim of their own.",
    ]


def constants(rows: list[Row]) -> str:
    """Return the figures for `billing/chain/gas.py`: straight lines through the smallest and the largest crowd."""
    few, many = rows[1], rows[-1]
    fresh = rows[-2]
    level = (many.claims / many.payees - few.claims / few.payees) / (many.levels - few.levels)
    alone = many.claims / many.payees - level * many.levels
    batches = -(-many.payees // BATCH["claim_many"][False])
    # few: base + n × (payee + level × levels); many: batches × base + m × (payee + level × levels)
    share = (few.claim_many / few.payees - level * few.levels) - (many.claim_many / many.payees - level * many.levels)
    base = share / (1 / few.payees - batches / many.payees)
    payee = few.claim_many / few.payees - level * few.levels - base / few.payees
    first = fresh.claims / fresh.payees - many.claims / many.payees
    return (
        f"SETTLE {many.settle:,}, TRANSFER {many.transfers / many.payees:,.0f}, PROOF_LEVEL {level:,.0f}, CLAIM {alone:,.0f}, "
        f"CLAIM_MANY {base:,.0f}, CLAIM_MANY_PAYEE {payee:,.0f}, FIRST {first:,.0f} more"
    )


def _kind(row: Row) -> str:
    return "fresh" if row.fresh else "existing"


def _verdict(measured: int, goal: int) -> str:
    return "met" if measured <= goal else "missed"


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payees", type=int, nargs="+", default=[10, 100, 500, 1000])
    crowds = parser.parse_args().payees
    luck = random.Random(7)
    with anvil() as node:
        chain = local.Chain(node.url)
        rows = [row for payees in crowds for row in measure(chain, payees, luck)]
    RESULT.write_text(report(rows))
    sys.stdout.write(report(rows) + "\n" + constants(rows) + "\n")


if __name__ == "__main__":
    main()
