"""The document behind each charge: what was used, at which prices, what it came to, and the signed readings that say so.

Billing stores it as canonical JSON and puts its hash into the epoch's usage root. Whole numbers and text only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from billing.services.statements import StatementDraft
from marketplace import pricing

if TYPE_CHECKING:
    from marketplace.services.charging import Step

VERSION = 1


def drafts(
    steps: Sequence[Step],
    *,
    prices: Mapping[int, pricing.Prices],
    rate: Decimal,
    evidence: Mapping[UUID, Sequence[str]],
    now: datetime,
) -> list[StatementDraft]:
    """Return one statement per charge, under the charge's key."""
    return [
        StatementDraft(
            key=step.key,
            document=_document(
                step, prices[step.period.price_list_id], rate, evidence.get(step.period.lease_id, ()), now
            ),
        )
        for step in steps
    ]


def _document(
    step: Step, prices: pricing.Prices, rate: Decimal, evidence: Sequence[str], now: datetime
) -> dict[str, Any]:
    period = step.period
    return {
        "version": VERSION,
        "key": step.key,
        "deployment_id": str(period.deployment_id),
        "lease_id": str(period.lease_id),
        "device_id": period.device_id,
        "publisher_id": period.publisher_id,
        "owner_id": period.owner_id,
        "from": period.charged_at.isoformat(),
        "to": now.isoformat(),
        "price_list": {
            "id": period.price_list_id,
            "region": period.price_list.region,
            "version": period.price_list.version,
            "nano_usd_per_unit": pricing.to_json(prices),
            "base_units_per_unit": {meter.value: unit.size for meter, unit in pricing.UNITS.items()},
        },
        "baseline": dict(period.baseline),
        "used": pricing.to_json(step.used),
        "totals": pricing.to_json(step.totals),
        "nano_usd": step.nano_usd,
        "nano_usd_of_period": period.nano_usd + step.nano_usd,
        "usd_per_ntc": f"{rate:f}",
        "owner_units": step.owner_units,
        "commission_units": step.commission_units,
        "evidence": list(evidence),
    }
