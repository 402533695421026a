"""Table 3 of the whitepaper: the United States price list at launch, as it stands (DESIGN §4).

The table lost its row names; ours are the meters. US dollars per unit; `pricing.UNITS` says what a unit is.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from nodes.agent.protocol import Meter

REGION = "us"
NAME = "United States"
EFFECTIVE_AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NOTICE_DAYS = 30
TABLE_3: dict[Meter, Decimal] = {
    Meter.TRANSFER: Decimal("0.01"),
    Meter.STORAGE: Decimal("1"),
    Meter.COMPUTE: Decimal("0.1"),
    Meter.UPTIME: Decimal("0.1"),
    Meter.ACTIVE_USER: Decimal("0.1"),
}
