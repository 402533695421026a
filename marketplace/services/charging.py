"""Turn readings into charges (DESIGN §4): many leases in one pass, each exactly once.

Readings are cumulative, so is the charge: what a period costs so far, less what it was charged so far, in whole nano-dollars,
turned into NTC at the rate in force; what makes no whole base unit is carried. So a resent, lost, late or repeated reading
changes nothing in the end.

The row of `ChargeCursor` is locked for the pass, so one worker charges at a time and another that comes meanwhile goes away.
Cursor, periods, charges, ledger and statements change in one transaction: a worker killed in between has done nothing.

New prices of a deployment begin with the first reading after its list's notice period; the use up to that reading is charged by the old ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import structlog
from django.db import InterfaceError, OperationalError, transaction
from django.utils import timezone

from billing import money
from billing.errors import NoRate
from billing.queries import rate_in_force
from billing.services import charges as billing_charges
from billing.services.charges import UsageCharge
from billing.services.ledger import MAX_AMOUNT
from billing.services.statements import record_statements
from interchain_site.core import alerts
from interchain_site.core.errors import Busy
from marketplace import pricing
from marketplace.errors import TooMuchToBill
from marketplace.models import Charge, ChargeCursor, ChargePeriod
from marketplace.services import new_prices, periods, usage_statements
from nodes import evidence
from nodes import queries as nodes_queries
from nodes.agent.protocol import Meter
from nodes.evidence import MeterReading

log = structlog.get_logger(__name__)
BATCH_LEASES = 1000
Readings = Mapping[UUID, Mapping[Meter, MeterReading]]
CURSOR = "readings"


@dataclass(frozen=True)
class Step:
    """A period's next charge, worked out before anything is written. Money in nano-dollars and base units."""

    period: ChargePeriod
    totals: dict[Meter, int]
    used: dict[Meter, int]  # since the charge before
    nano_usd: int
    owner_units: int
    commission_units: int
    carry_atto_usd: int
    commission_carry: int

    @property
    def key(self) -> str:
        """Names this charge for ever: the period's row counts its steps in the same transaction."""
        return f"charge:{self.period.lease_id}:{self.period.number}:{self.period.step + 1}"


@dataclass
class Passed:
    """What a pass did. The balances of `publishers` moved; what the leases in `unbillable` are said to have used cannot be charged."""

    leases: int = 0
    publishers: set[int] = field(default_factory=set)
    unbillable: set[UUID] = field(default_factory=set)
    more: bool = False


def charge_new_readings(*, now: datetime | None = None, limit: int = BATCH_LEASES) -> Passed:
    """Charge the leases whose readings are new since the last pass, at most `limit` of them.

    Raises:
        NoRate: nothing is charged or lost; the next pass takes it up. LedgerBusy: likewise.
    """
    now = now or timezone.now()
    with transaction.atomic():
        cursor = _lock_cursor()
        if cursor is None:
            return Passed()
        changed = nodes_queries.leases_with_new_readings(after=cursor.sequence, limit=limit)
        if not changed:
            return Passed()
        passed = _charge([lease_id for lease_id, _ in changed], now=now)
        cursor.sequence = max(sequence for _, sequence in changed)
        cursor.save(update_fields=["sequence"])
        passed.more = len(changed) >= limit
        return passed


def charge_leases(*, lease_ids: Sequence[UUID], now: datetime | None = None) -> Passed:
    """Charge given leases up to their latest reading, whatever the cursor says; heals what a cursor could miss.

    Raises:
        NoRate, LedgerBusy.
    """
    with transaction.atomic():
        if _lock_cursor() is None:
            return Passed()
        return _charge(lease_ids, now=now or timezone.now())


def next_step(period: ChargePeriod, totals: Mapping[Meter, int], prices: pricing.Prices, rate: Decimal) -> Step | None:
    """Return what a period is to be charged now that its lease used `totals`; None when nothing was used since.

    Pure. A total below the one charged counts as no use.

    Raises:
        TooMuchToBill: no column or ledger entry could hold it.
    """
    before = pricing.from_json(period.totals)
    reached = {meter: max(totals.get(meter, 0), before.get(meter, 0)) for meter in Meter}
    used = pricing.difference(reached, before)
    if not any(used.values()):
        return None
    cost = pricing.price_nano_usd(pricing.difference(reached, pricing.from_json(period.baseline)), prices)
    nano_usd = cost - period.nano_usd
    owner_units, carry = money.ntc_units_for_nano_usd(nano_usd, rate, period.carry_atto_usd)
    commission, commission_carry = money.commission_units(owner_units, period.commission_carry)
    paid = owner_units + commission + period.owner_units + period.commission_units
    if max(cost, paid, *used.values()) >= MAX_AMOUNT:
        raise TooMuchToBill
    return Step(period, reached, used, nano_usd, owner_units, commission, carry, commission_carry)


def _lock_cursor() -> ChargeCursor | None:
    ChargeCursor.objects.get_or_create(name=CURSOR)
    return ChargeCursor.objects.select_for_update(skip_locked=True).filter(name=CURSOR).first()


def _charge(lease_ids: Sequence[UUID], *, now: datetime) -> Passed:
    """Charge leases together; if one of them cannot be, it alone is passed over, noted for staff, and the others are charged."""
    try:
        with transaction.atomic():
            return _charge_together(lease_ids, now=now)
    except (NoRate, Busy, OperationalError, InterfaceError):
        raise
    except TooMuchToBill:
        if len(lease_ids) == 1:
            log.warning("lease_too_much_to_bill", lease=str(lease_ids[0]))
            return Passed(unbillable={lease_ids[0]})
    except Exception:
        if len(lease_ids) == 1:
            log.exception("lease_cannot_be_charged", lease=str(lease_ids[0]))
            _alert(lease_ids[0])
            return Passed()
    half = len(lease_ids) // 2
    first, rest = _charge(lease_ids[:half], now=now), _charge(lease_ids[half:], now=now)
    return Passed(
        leases=first.leases + rest.leases,
        publishers=first.publishers | rest.publishers,
        unbillable=first.unbillable | rest.unbillable,
    )


def _alert(lease_id: UUID) -> None:
    alerts.raise_alert(
        code="lease_not_charged",
        subject=f"lease:{lease_id}",
        message="The use of a lease cannot be charged, for a reason that is a fault of ours. It goes on running.",
        mend="Read “lease_cannot_be_charged” in the worker's log. What it used is charged once that is mended.",
    )


def _charge_together(lease_ids: Sequence[UUID], *, now: datetime) -> Passed:
    """Steps: adopt strange leases · open periods · totals · next steps · ledger · rows and statements · periods whose new prices begin."""
    periods.adopt_missing(lease_ids, now=now)
    open_periods = periods.open_periods(lease_ids)
    if not open_periods:
        return Passed()
    readings = evidence.usage_readings(lease_ids=list(open_periods))
    prices = {row.price_list_id: row.price_list.prices_by_meter() for row in open_periods.values()}
    rate = rate_in_force(now)
    found = (
        next_step(period, _totals(readings[lease_id]), prices[period.price_list_id], rate)
        for lease_id, period in open_periods.items()
    )
    steps = [step for step in found if step is not None]
    if steps:
        _write(steps, readings=readings, prices=prices, rate=rate, now=now)
    new_prices.begin_where_due(list(open_periods.values()), now=now)
    return Passed(leases=len(steps), publishers={step.period.publisher_id for step in steps})


def _totals(readings: Mapping[Meter, MeterReading]) -> dict[Meter, int]:
    return {meter: reading.total for meter, reading in readings.items()}


def _write(
    steps: Sequence[Step], *, readings: Readings, prices: Mapping[int, pricing.Prices], rate: Decimal, now: datetime
) -> None:
    results = billing_charges.charge_usage(
        charges=[
            UsageCharge(
                key=step.key,
                publisher_id=step.period.publisher_id,
                owner_id=step.period.owner_id,
                owner_units=step.owner_units,
                commission_units=step.commission_units,
                effective_at=now,
                reference=f"deployment:{step.period.deployment_id}",
                memo="Metered use",
            )
            for step in steps
            if step.owner_units
        ],
        now=now,
    )
    short = {result.key: result.shortfall_units for result in results}
    Charge.objects.bulk_create(_charge_row(step, rate, short.get(step.key, 0), now) for step in steps)
    record_statements(
        drafts=usage_statements.drafts(steps, prices=prices, rate=rate, readings=readings, now=now), now=now
    )
    for step in steps:
        _move_on(step, readings[step.period.lease_id], now)
    periods.save_all([step.period for step in steps])


def _charge_row(step: Step, rate: Decimal, shortfall_units: int, now: datetime) -> Charge:
    return Charge(
        period=step.period,
        deployment_id=step.period.deployment_id,
        key=step.key,
        since=step.period.charged_at,
        at=now,
        seconds=max(0, round((now - step.period.charged_at).total_seconds())),
        nano_usd=step.nano_usd,
        rate=rate,
        owner_units=step.owner_units,
        commission_units=step.commission_units,
        shortfall_units=shortfall_units,
        **pricing.to_json(step.used),
    )


def _move_on(step: Step, readings: Mapping[Meter, MeterReading], now: datetime) -> None:
    period = step.period
    period.totals = pricing.to_json(step.totals)
    period.evidence = {
        meter.value: {"batch": reading.batch, "capped": reading.capped} for meter, reading in readings.items()
    }
    period.nano_usd += step.nano_usd
    period.owner_units += step.owner_units
    period.commission_units += step.commission_units
    period.carry_atto_usd = step.carry_atto_usd
    period.commission_carry = step.commission_carry
    period.charged_at = now
    period.step += 1
