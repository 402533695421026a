"""How far a device can be relied on: a pure figure from what was seen of it, in thousandths. No database.

Weights and reasons are written out in docs/trust.md; a test holds the page to the numbers here.
"""

from __future__ import annotations

from dataclasses import dataclass

WEIGHTS = {"uptime": 500, "starts": 200, "claims": 100, "traffic": 50, "checks": 150}
"""In thousandths of the whole. Being there counts most: an app on a device that is away has to move."""

UPTIME_PRIOR_SECONDS = 86_400
UPTIME_PRIOR_PERMILLE = 900
"""What a newcomer is taken for: one day in which it was there nine tenths of the time."""
STARTS_PRIOR, STARTS_PRIOR_GOOD = 10, 9
CAPPED_DAY_COSTS = 100
"""Of the claims' thousand, for each of the last 30 days with a claim above what was possible: honest counters make none."""
TOLERATED_RATIO = 2
"""Bytes claimed for each byte the gateways saw that are explained: they count what is in the packets, the device counts packets."""
TOLERATED_BYTES_PER_HOUR = 10_000_000
"""Of uptime: health checks, and what apps without clients do."""
CHECKS_PRIOR, CHECKS_PRIOR_GOOD = 10, 9
FAILED_CHECK_COUNTS_AS = 3


@dataclass(frozen=True)
class History:
    """What was seen of a device, older things counting less (nodes/services/trust.py halves them every 30 days)."""

    online_seconds: int = 0
    away_seconds: int = 0
    starts: int = 0
    failed_starts: int = 0
    checks_passed: int = 0
    checks_failed: int = 0
    capped_days: int = 0
    claimed_bytes: int = 0
    explained_bytes: int = 0


def parts(seen: History) -> dict[str, int]:
    """Return each part of the figure, in thousandths."""
    prior = UPTIME_PRIOR_SECONDS
    there = seen.online_seconds * 1000 + prior * UPTIME_PRIOR_PERMILLE
    checked = seen.checks_passed + seen.checks_failed * FAILED_CHECK_COUNTS_AS
    return {
        "uptime": there // (seen.online_seconds + seen.away_seconds + prior),
        "starts": 1000 * (seen.starts + STARTS_PRIOR_GOOD) // (seen.starts + seen.failed_starts + STARTS_PRIOR),
        "claims": max(0, 1000 - CAPPED_DAY_COSTS * seen.capped_days),
        "traffic": 1000 * min(seen.claimed_bytes, seen.explained_bytes) // seen.claimed_bytes
        if seen.claimed_bytes
        else 1000,
        "checks": 1000 * (seen.checks_passed + CHECKS_PRIOR_GOOD) // (checked + CHECKS_PRIOR),
    }


def explained_bytes(*, seen: int, uptime_milliseconds: int) -> int:
    """Return how many bytes of `transfer` the gateways' count of the same apps explains.

    Args:
        seen: bytes at the gateways.
        uptime_milliseconds: of the apps.
    """
    return TOLERATED_RATIO * seen + TOLERATED_BYTES_PER_HOUR * uptime_milliseconds // 3_600_000


def reliability(seen: History) -> int:
    """Return the weighted sum of the parts, 0 to 1000."""
    return sum(WEIGHTS[name] * part for name, part in parts(seen).items()) // 1000


NEWCOMER = reliability(History())
"""The figure of a device nobody has seen anything of."""
