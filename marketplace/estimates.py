"""What an app is expected to cost, from what its publisher expects it to use. Pure arithmetic, whole nano-dollars.

A month is 30 days. An hour and a day are shares of the month, rounded up, so that an estimate is never the smaller number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from billing import money
from marketplace import pricing
from nodes.agent.protocol import Meter

MONTH_HOURS = 30 * 24
HOUR_SECONDS = 3600


@dataclass(frozen=True)
class ExpectedUse:
    """What a publisher expects, of each replica. Uptime needs no input: a running app is up an hour an hour."""

    cpu_seconds_per_hour: Decimal = Decimal("0.01")
    transfer_gb_per_hour: Decimal = Decimal("0.01")
    stored_gb: Decimal = Decimal(0)
    monthly_active_users: int = 0
    replicas: int = 1

    def as_json(self) -> dict[str, Any]:
        return {name: value if isinstance(value, int) else str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ExpectedUse:
        known = {name: stored[name] for name in cls.__dataclass_fields__ if name in stored}
        users, replicas = int(known.pop("monthly_active_users", 0)), int(known.pop("replicas", 1))
        return cls(
            monthly_active_users=users, replicas=replicas, **{name: Decimal(value) for name, value in known.items()}
        )


@dataclass(frozen=True)
class Estimate:
    """Nano-dollars per hour, day and month: each meter, the owner's revenue, the commission and what the publisher pays."""

    meters: dict[Meter, dict[str, int]]
    owner: dict[str, int]
    commission: dict[str, int]
    total: dict[str, int]
    cpu_second_nano_usd: int  # what one second of one core costs, commission included
    instructions_per_second: int


def monthly_quantities(use: ExpectedUse, instructions_per_second: int) -> dict[Meter, int]:
    """Return a month of the expected use of all replicas in base units, rounded up. An app's active users are counted once."""
    return {
        Meter.TRANSFER: use.replicas * _up(use.transfer_gb_per_hour * pricing.GB * MONTH_HOURS),
        Meter.STORAGE: use.replicas * _up(use.stored_gb * pricing.GB * MONTH_HOURS * HOUR_SECONDS),
        Meter.COMPUTE: use.replicas * _up(use.cpu_seconds_per_hour * instructions_per_second * MONTH_HOURS),
        Meter.UPTIME: use.replicas * MONTH_HOURS * pricing.HOUR_MILLISECONDS,
        Meter.ACTIVE_USER: use.monthly_active_users,
    }


def estimate(use: ExpectedUse, prices: pricing.Prices, instructions_per_second: int) -> Estimate:
    """Return what `use` costs under `prices` on a device that executes `instructions_per_second` on one core."""
    quantities = monthly_quantities(use, instructions_per_second)
    owner = pricing.price_nano_usd(quantities, prices)
    commission = money.commission_units(owner)[0]
    cpu_second = pricing.price_nano_usd({Meter.COMPUTE: instructions_per_second}, prices)
    return Estimate(
        meters={meter: _spread(nano) for meter, nano in pricing.price_per_meter(quantities, prices).items()},
        owner=_spread(owner),
        commission=_spread(commission),
        total=_spread(owner + commission),
        cpu_second_nano_usd=cpu_second + money.commission_units(cpu_second)[0],
        instructions_per_second=instructions_per_second,
    )


def _spread(month: int) -> dict[str, int]:
    return {"hour": -(-month // MONTH_HOURS), "day": -(-month // 30), "month": month}


def _up(value: Decimal) -> int:
    return -int(-value // 1)
