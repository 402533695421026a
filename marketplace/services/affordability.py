"""Whether a publisher can pay the first hour, and what an hour is expected to cost."""

from __future__ import annotations

from datetime import datetime

from billing import money
from billing.queries import available_units, rate_in_force
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
    needed, available = hour_in_units(nano_usd_per_hour, now), available_units(publisher_id)
    if available <= 0 or available < needed:
        short = max(needed - available, 1)
        raise NotEnoughNTC(
            f"One hour is expected to cost {money.format_ntc(needed)} and you have {money.format_ntc(available)}. "
            f"Buy {money.format_ntc(short)} or more, or expect less use, then try again."
        )
