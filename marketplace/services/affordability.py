"""Whether a publisher can pay the first hour, and what an hour is expected to cost."""

from __future__ import annotations

from datetime import datetime

from billing import money
from billing.queries import Balances, balances, rate_in_force
from marketplace import queries
from marketplace.errors import NotEnoughNTC
from marketplace.estimates import ExpectedUse, estimate
from marketplace.models import PriceList


def expected_nano_usd_per_hour(use: ExpectedUse, price_list: PriceList) -> int:
    """Return what an hour of the expected use costs the publisher, commission included, in nano-dollars."""
    per_second = queries.typical_instructions_per_second()
    return estimate(use, price_list.prices_by_meter(), per_second).total["hour"]


def hour_in_units(nano_usd_per_hour: int, now: datetime) -> int:
    """Return an hour's cost in base units of NTC at the rate in force, rounded up.

    Raises:
        NoRate: staff set none yet.
    """
    units, rest = money.ntc_units_for_nano_usd(nano_usd_per_hour, rate_in_force(now))
    return units + bool(rest)


def check_hour_is_covered(*, publisher_id: int, nano_usd_per_hour: int, now: datetime) -> None:
    """Refuse to start what could not run for an hour.

    Raises:
        NotEnoughNTC: with how much is missing. NoRate.
    """
    needed, balance = hour_in_units(nano_usd_per_hour, now), balances(publisher_id)
    short = missing_units(needed, balance)
    if short:
        owing = f" and owe {money.format_ntc(balance.owed)}, which is repaid first" if balance.owed else ""
        raise NotEnoughNTC(
            f"One hour is expected to cost {money.format_ntc(needed)} and you have {money.format_ntc(balance.available)}"
            f"{owing}. Buy {money.format_ntc(short)} or more, or expect less use, then try again."
        )


def missing_units(needed: int, balance: Balances) -> int:
    """Return how much NTC somebody must buy until `needed` is there, debts repaid; 0 when it is there."""
    if balance.available > 0 and balance.available >= needed:
        return 0
    return max(needed - balance.available, 1) + balance.owed
