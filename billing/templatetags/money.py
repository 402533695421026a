"""Money on screens: `|ntc`, `|usd`, `|nano_usd`, and `|amount:currency`. Built into every template by settings."""

from __future__ import annotations

from decimal import Decimal

from django import template

from billing import money

register = template.Library()


@register.filter
def ntc(units: int | None) -> str:
    """Base units of NTC as people read them."""
    return money.format_ntc(units or 0)


@register.filter
def ntc_whole(units: int | None) -> str:
    """A large amount of NTC for a headline: from 1,000 NTC up without decimals, cut and never rounded up."""
    found = units or 0
    return (
        f"{found // money.NANO:,} NTC"
        if found >= 1_000 * money.NANO or found % money.NANO == 0
        else money.format_ntc(found)
    )


@register.filter
def usd(cents: int | None) -> str:
    """US cents as people read them."""
    return money.format_usd_cents(cents or 0)


@register.filter
def nano_usd(nano: int | None) -> str:
    """Nano-dollars as people read them."""
    return money.format_nano_usd(nano or 0)


@register.filter
def amount(value: int | None, currency: str) -> str:
    """A ledger amount in its own currency."""
    return money.format_amount(value or 0, currency)


@register.filter
def rate(value: Decimal) -> str:
    """A rate as people read it: USD, no needless zeros."""
    whole, _, part = f"{value:f}".partition(".")
    return f"${whole}.{part.rstrip('0').ljust(2, '0')}"
