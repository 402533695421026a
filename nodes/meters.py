"""How people read a meter's total."""

from __future__ import annotations

from decimal import Decimal

from nodes.agent.protocol import Meter

BYTE_SECONDS_PER_GB_DAY = 10**9 * 86_400


def readable(meter: Meter, total: int) -> str:
    """Return a total of base units in the unit that Table 3 prices, e.g. "1.250 GB", "3.40 hours"."""
    match meter:
        case Meter.TRANSFER:
            return f"{Decimal(total) / 10**9:,.3f} GB"
        case Meter.STORAGE:
            return f"{Decimal(total) / BYTE_SECONDS_PER_GB_DAY:,.3f} GB-days"
        case Meter.COMPUTE:
            return f"{Decimal(total) / 10**6:,.0f} million instructions"
        case Meter.UPTIME:
            return f"{Decimal(total) / 3_600_000:,.2f} hours"
        case Meter.ACTIVE_USER:
            return f"{total:,} user-months"
