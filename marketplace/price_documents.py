"""A published price list as a document that anybody can hash: what a usage statement means by its price list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interchain_site.core.canonical import canonical_json, sha256_hex
from marketplace import pricing
from marketplace.models import PriceList

FORMAT = "interchain-price-list"


def document(price_list: PriceList, prices: pricing.Prices) -> dict[str, Any]:
    """Return the list in whole numbers: nano-dollars per unit, and how many base units a unit has. It never changes again."""
    return {
        "format": FORMAT,
        "region": price_list.region,
        "version": price_list.version,
        "name": price_list.name,
        "effective_at": price_list.effective_at.isoformat() if price_list.effective_at else None,
        "notice_days": price_list.notice_days,
        "nano_usd_per_unit": pricing.to_json(prices),
        "base_units_per_unit": {meter.value: unit.size for meter, unit in pricing.UNITS.items()},
    }


def hashes(price_lists: Mapping[int, PriceList], prices: Mapping[int, pricing.Prices]) -> dict[int, str]:
    """Return the SHA-256 of each list's document, in hex, by the list's id."""
    return {pk: sha256_hex(canonical_json(document(row, prices[pk]))) for pk, row in price_lists.items()}
