"""A price list beside the one in force: per meter, and for what was really used in the last 30 days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from marketplace import pricing, queries
from marketplace.errors import NoPriceList
from marketplace.models import PriceList

USAGE_DAYS = 30


@dataclass(frozen=True)
class Row:
    """One meter; prices and costs in nano-dollars, None where a list has no price for it."""

    label: str
    unit: str
    old: int | None
    new: int | None
    used: Decimal
    old_cost: int
    new_cost: int

    @property
    def difference(self) -> int | None:
        return None if self.old is None or self.new is None else self.new - self.old

    @property
    def percent(self) -> str:
        """The change in per cent, in words where there is none to tell."""
        if self.difference is None or not self.old:
            return "–"
        return f"{self.difference * 100 / Decimal(self.old):+.1f} %"


@dataclass(frozen=True)
class Comparison:
    in_force: PriceList | None
    since: datetime
    rows: list[Row]
    old_total: int
    new_total: int

    @property
    def difference(self) -> int:
        return self.new_total - self.old_total


def compare(price_list: PriceList, *, now: datetime) -> Comparison:
    """Return the list against its region's list in force."""
    since = now - timedelta(days=USAGE_DAYS)
    used = queries.usage_between(price_list.region, since, now)
    try:
        in_force: PriceList | None = queries.price_list_in_force(now=now, region=price_list.region)
    except NoPriceList:
        in_force = None
    old = in_force.prices_by_meter() if in_force else {}
    new = price_list.prices_by_meter()
    old_costs, new_costs = pricing.price_per_meter(used, old), pricing.price_per_meter(used, new)
    rows = [
        Row(
            label=unit.label,
            unit=unit.name,
            old=old.get(meter),
            new=new.get(meter),
            used=pricing.quantity_in_units(meter, used[meter]),
            old_cost=old_costs[meter],
            new_cost=new_costs[meter],
        )
        for meter, unit in pricing.UNITS.items()
    ]
    old_total, new_total = pricing.price_nano_usd(used, old), pricing.price_nano_usd(used, new)
    return Comparison(in_force, since, rows, old_total, new_total)
