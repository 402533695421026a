"""The document behind each charge: what was used, at which prices, what it came to, and the signed readings that say so.

Billing stores it as canonical JSON and puts its hash into the epoch's usage root; `interchain-verify` works it out again
from this document alone. Whole numbers and text only. docs/money.md lists the fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.conf import settings

from billing.services.statements import StatementDraft
from marketplace import price_documents, pricing
from nodes import evidence
from nodes.agent.protocol import Meter
from nodes.evidence import MeterReading

if TYPE_CHECKING:
    from marketplace.services.charging import Readings, Step

FORMAT = "interchain-usage"
VERSION = 2


def drafts(
    steps: Sequence[Step],
    *,
    prices: Mapping[int, pricing.Prices],
    rate: Decimal,
    readings: Readings,
    now: datetime,
) -> list[StatementDraft]:
    """Return one statement per charge, under the charge's key. The steps' periods are as they were before the charge."""
    hashes = price_documents.hashes({step.period.price_list_id: step.period.price_list for step in steps}, prices)
    keys = evidence.device_keys({step.period.device_id for step in steps})
    found = []
    for step in steps:
        price_list = _price_list(step, prices[step.period.price_list_id], hashes[step.period.price_list_id])
        document = {
            "format": FORMAT,
            "version": VERSION,
            "key": step.key,
            "device_key": keys.get(step.period.device_id, ""),
            "price_list": price_list,
            **_parties(step, now),
            **_quantities(step, readings[step.period.lease_id]),
            **_money(step, rate),
        }
        meters = tuple(step.used.get(meter, 0) for meter in Meter)
        found.append(StatementDraft(key=step.key, document=document, meters=meters))
    return found


def _parties(step: Step, now: datetime) -> dict[str, Any]:
    period = step.period
    return {
        "deployment_id": str(period.deployment_id),
        "lease_id": str(period.lease_id),
        "device_id": period.device_id,
        "publisher_id": period.publisher_id,
        "owner_id": period.owner_id,
        "from": period.charged_at.isoformat(),
        "to": now.isoformat(),
    }


def _price_list(step: Step, prices: pricing.Prices, sha256: str) -> dict[str, Any]:
    price_list = step.period.price_list
    return {
        "id": price_list.pk,
        "region": price_list.region,
        "version": price_list.version,
        "sha256": sha256,
        "nano_usd_per_unit": pricing.to_json(prices),
        "base_units_per_unit": {meter.value: unit.size for meter, unit in pricing.UNITS.items()},
    }


def _quantities(step: Step, readings: Mapping[Meter, MeterReading]) -> dict[str, Any]:
    """Return totals and the signed batches they rest on, at the line before and now; `used` is their difference."""
    period = step.period
    signed = {}
    for meter, reading in readings.items():
        before = period.evidence.get(meter.value, {})
        signed[meter.value] = {
            "before": before.get("batch", ""),
            "before_capped": before.get("capped", False),
            "now": reading.batch,
            "capped": reading.capped,
            "method": reading.method,
        }
    return {
        "baseline": _every_meter(period.baseline),
        "before": _every_meter(period.totals),
        "totals": pricing.to_json(step.totals),
        "used": pricing.to_json(step.used),
        "readings": signed,
        "evidence": sorted({one[when] for one in signed.values() for when in ("before", "now")} - {""}),
    }


def _money(step: Step, rate: Decimal) -> dict[str, Any]:
    period = step.period
    return {
        "nano_usd_before": period.nano_usd,
        "nano_usd": step.nano_usd,
        "nano_usd_of_period": period.nano_usd + step.nano_usd,
        "usd_per_ntc": f"{rate:f}",
        "carry_atto_usd_before": period.carry_atto_usd,
        "carry_atto_usd": step.carry_atto_usd,
        "owner_units": step.owner_units,
        "commission_basis_points": settings.COMMISSION_BASIS_POINTS,
        "commission_carry_before": period.commission_carry,
        "commission_carry": step.commission_carry,
        "commission_units": step.commission_units,
    }


def _every_meter(stored: Mapping[str, int]) -> dict[str, int]:
    return {meter.value: int(stored.get(meter.value, 0)) for meter in Meter}
