"""What a use costs: exact whole-number arithmetic, no database.

Quantities are whole base units of `protocol.Meter`; prices are `Decimal` US dollars per unit with at most nine places,
so a price is a whole number of nano-dollars per unit. A total is summed exactly and rounded once, downwards, to whole
nano-dollars: nobody is charged for a part of a nano-dollar that was not used up yet. Because readings are cumulative, the next
total contains what this one cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import lcm

from billing.money import NANO
from nodes.agent.protocol import Meter

GB = 10**9
DAY_SECONDS = 86_400
HOUR_MILLISECONDS = 3_600_000


@dataclass(frozen=True)
class Unit:
    """What a price is per. `size` counts base units of the meter in one unit."""

    name: str
    size: int
    label: str


UNITS: dict[Meter, Unit] = {
    Meter.TRANSFER: Unit("GB", GB, "Transfer"),
    Meter.STORAGE: Unit("GB held for a day", GB * DAY_SECONDS, "Storage"),
    Meter.COMPUTE: Unit("million instructions", 10**6, "Compute"),
    Meter.UPTIME: Unit("hour", HOUR_MILLISECONDS, "Uptime"),
    Meter.ACTIVE_USER: Unit("active user in a month", 1, "Active users"),
}
_DENOMINATOR = lcm(*(unit.size for unit in UNITS.values()))
_FACTOR = {meter: _DENOMINATOR // unit.size for meter, unit in UNITS.items()}

Quantities = Mapping[Meter, int]
Prices = Mapping[Meter, int]  # whole nano-dollars per unit


def nano_per_unit(usd: Decimal) -> int:
    """Return US dollars per unit as whole nano-dollars.

    Raises:
        ValueError: the price is negative or has more than nine decimal places.
    """
    nano = usd * NANO
    if nano != nano.to_integral_value() or nano < 0:
        raise ValueError(f"{usd} is not a price: it is negative or has more than nine decimal places.")
    return int(nano)


def price_nano_usd(quantities: Quantities, prices: Prices) -> int:
    """Return the price of all quantities together in whole nano-dollars, rounded down once."""
    total = sum(amount * prices.get(meter, 0) * _FACTOR[meter] for meter, amount in quantities.items())
    return total // _DENOMINATOR


def price_per_meter(quantities: Quantities, prices: Prices) -> dict[Meter, int]:
    """Return each meter's own price in whole nano-dollars, for showing; their sum may fall 4 nano-dollars short of the total."""
    return {meter: quantities.get(meter, 0) * prices.get(meter, 0) // unit.size for meter, unit in UNITS.items()}


def difference(total: Quantities, baseline: Quantities) -> dict[Meter, int]:
    """Return what was used since `baseline`, never below zero."""
    return {meter: max(0, total.get(meter, 0) - baseline.get(meter, 0)) for meter in Meter}


def to_json(quantities: Quantities) -> dict[str, int]:
    """Return quantities as a JSON column keeps them."""
    return {meter.value: amount for meter, amount in quantities.items()}


def from_json(stored: Mapping[str, int]) -> dict[Meter, int]:
    """Return the quantities behind `to_json`."""
    return {Meter(name): int(amount) for name, amount in stored.items()}


def quantity_in_units(meter: Meter, quantity: int) -> Decimal:
    """Return a quantity in the meter's priced unit, for showing."""
    return Decimal(quantity) / UNITS[meter].size
