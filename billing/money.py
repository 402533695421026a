"""Units, the one rounding function, exact carries and formatting. No float comes near money.

- NTC is counted in base units: 1 NTC = `NANO` base units (the token has 9 decimals).
- Card money is counted in US cents, metered money in nano-dollars (10⁻⁹ USD).
- A rate is a `Decimal`: USD per 1 NTC, at most nine decimals.

Charging never rounds: what does not fill a whole base unit is carried to the next charge (`ntc_units_for_nano_usd`,
`commission_units`). Quotes round once, half to even, in `round_units`, so neither side gains over many quotes.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

from django.conf import settings

NANO = 1_000_000_000
CENTS = 100
BASIS_POINTS = 10_000
RATE_DECIMALS = 9

_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)


def round_units(value: Decimal) -> int:
    """Return the nearest whole unit; exactly half goes to the even one. The only rounding of money there is."""
    return int(value.to_integral_value(rounding=ROUND_HALF_EVEN, context=_EXACT))


def ntc_units_for_cents(cents: int, rate: Decimal) -> int:
    """Return the base units of NTC that `cents` buy at `rate`, rounded once."""
    with localcontext(_EXACT):
        return round_units(Decimal(cents) * (NANO // CENTS) / rate)


def cents_for_ntc_units(units: int, rate: Decimal) -> int:
    """Return the price in cents of `units` base units of NTC at `rate`, rounded once."""
    with localcontext(_EXACT):
        return round_units(Decimal(units) * rate * CENTS / NANO)


def nano_usd_for_ntc_units(units: int, rate: Decimal) -> int:
    """Return what `units` are worth in nano-dollars at `rate`, rounded once; for screens, not for charging."""
    with localcontext(_EXACT):
        return round_units(Decimal(units) * rate)


def share(units: int, part: int, whole: int) -> int:
    """Return `units` × `part` / `whole`, rounded once: the NTC that stands for part of a price."""
    with localcontext(_EXACT):
        return round_units(Decimal(units) * part / whole)


def ntc_units_for_nano_usd(nano_usd: int, rate: Decimal, carry: int = 0) -> tuple[int, int]:
    """Turn metered money into NTC without losing anything.

    Args:
        nano_usd: nano-dollars to charge, not negative.
        rate: USD per NTC.
        carry: what the last call returned, in 10⁻¹⁸ USD. It is money, not NTC, so it stays right when the rate moves.

    Returns:
        `(units, carry)`: whole base units, and the part worth less than one, for the next call.
    """
    if nano_usd < 0 or carry < 0:
        raise ValueError("Only amounts of zero or more are charged; a correction is a reversing transaction.")
    return divmod(nano_usd * NANO + carry, rate_nano(rate))


def commission_units(owner_units: int, carry: int = 0) -> tuple[int, int]:
    """Return the platform's share on top of `owner_units`, and the carry (in 1/10,000 base units) for the next call."""
    return divmod(owner_units * settings.COMMISSION_BASIS_POINTS + carry, BASIS_POINTS)


def rate_nano(rate: Decimal) -> int:
    """Return the rate in nano-dollars per NTC.

    Raises:
        ValueError: not above zero, or more than nine decimals.
    """
    scaled = rate.scaleb(RATE_DECIMALS, context=_EXACT)
    if scaled <= 0 or scaled != scaled.to_integral_value():
        raise ValueError(f"A rate is above zero with at most {RATE_DECIMALS} decimals, not {rate}.")
    return int(scaled)


def format_ntc(units: int) -> str:
    """`1234500000000` → `1,234.50 NTC`: exact, at least two decimals, no needless zeros."""
    return f"{_decimals(units, NANO)} NTC"


def format_usd_cents(cents: int) -> str:
    """`123450` → `$1,234.50`."""
    return f"{'-' if cents < 0 else ''}${_decimals(abs(cents), CENTS)}"


def format_nano_usd(nano: int) -> str:
    """`1250000` → `$0.00125`: exact, at least two decimals."""
    return f"{'-' if nano < 0 else ''}${_decimals(abs(nano), NANO)}"


def format_amount(amount: int, currency: str) -> str:
    """Return a ledger amount in its currency: NTC in base units, USD in cents."""
    return format_ntc(amount) if currency == "NTC" else format_usd_cents(amount)


def plain_ntc(units: int) -> str:
    """`1234500000000` → `1234.500000000`: for CSV and the API, always nine decimals."""
    sign = "-" if units < 0 else ""
    whole, part = divmod(abs(units), NANO)
    return f"{sign}{whole}.{part:09d}"


def plain_usd_cents(cents: int) -> str:
    """`123450` → `1234.50`: for CSV and the API."""
    sign = "-" if cents < 0 else ""
    whole, part = divmod(abs(cents), CENTS)
    return f"{sign}{whole}.{part:02d}"


def _decimals(amount: int, scale: int) -> str:
    sign = "-" if amount < 0 else ""
    whole, part = divmod(abs(amount), scale)
    digits = f"{part:0{len(str(scale)) - 1}d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole:,}.{digits}"
