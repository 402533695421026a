"""The whitepaper's tables about raising and spending the funds (§4 Table 1, §7 Table 4), as data.

Amounts of NTC in base units. The whitepaper prints Table 4 under the words "Table 3. Capital Allocation"; §7 calls it Table 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from billing.money import NANO

PRICE_FACTOR = 3  # a round's price is at most so many times the one before (§4)
SUPPLY_UNITS = 25_000_000 * NANO
FOUNDERS_UNITS = 5_000_000 * NANO


@dataclass(frozen=True)
class Round:
    """A row of Table 1. `planned_on` is the whitepaper's date; it is shown, and nothing waits for it."""

    number: int
    target_units: int
    trigger: str
    planned_on: date


TABLE_1 = (
    Round(1, 10_000_000 * NANO, "Interchain demo-able", date(2017, 12, 15)),
    Round(2, 3_000_000 * NANO, "Interchain alpha out", date(2018, 6, 15)),
    Round(3, 7_000_000 * NANO, "Interchain beta out", date(2018, 12, 15)),
)


@dataclass(frozen=True)
class Share:
    """A category of Table 4 in percent of the capital: its work items, and the figure printed beside its name, if any."""

    name: str
    items: tuple[tuple[str, int], ...]
    printed: int | None = None

    @property
    def percent(self) -> int:
        return sum(percent for _, percent in self.items)


# Under "Software Development" the table prints 50 beside "Interchain Protocol Development" and below it five parts that make
# 50 together. Read as a sum and its parts, the whole table makes 100; read as one more item, it would make 150.
PROTOCOL = "Interchain protocol development"
PROTOCOL_PERCENT = 50
PROTOCOL_PARTS = (
    ("Application manager", 15),
    ("Application publisher", 5),
    ("Reimbursement manager (blockchain)", 20),
    ("Networking", 5),
    ("Security", 5),
)
TABLE_4 = (
    Share("Software development", (*PROTOCOL_PARTS, ("Interapp development", 5))),
    Share("Marketing", (("Advertisement", 10), ("Interapp market development", 2), ("Expansion strategy", 3))),
    Share("Economic analysis", (("NTC payment algorithms", 7), ("Fraud detection AI algorithms", 3)), printed=10),
    Share(
        "Finance",
        (("Token release strategy", 4), ("Token pricing strategy", 4), ("Investment and capital spending strategy", 2)),
    ),
    Share("Operations", (("HR", 5), ("Other", 2))),
    Share("Legal", (("ICO analysis and counseling", 2), ("Other", 1)), printed=3),
)
