"""Whole screens' data: an app's page and its estimate, for page and API alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from billing import money
from billing.errors import NoRate
from billing.queries import Balances, available_units, balances, rate_in_force
from interchain_site.core.templatetags.ui import duration
from marketplace import policies, pricing, queries
from marketplace.estimates import Estimate, ExpectedUse, estimate
from marketplace.models import App, Charge, ChargePeriod, Deployment
from marketplace.services.affordability import hour_in_units, missing_units
from marketplace.states import ASKED_TO_RUN, AT_REST, DeploymentState, Desired
from nodes import queries as nodes_queries
from nodes import replica_queries
from nodes.agent.protocol import Meter
from nodes.queries import LeaseSummary
from nodes.regions import Region
from nodes.replica_queries import FailoverRow, ReplicaRow

SPANS = ("hour", "day", "month")


@dataclass(frozen=True)
class MeterCost:
    """One meter's line: quantity in base units and in the priced unit, price in nano-dollars without commission."""

    meter: Meter
    label: str
    unit: str
    quantity: int
    nano_usd: int

    @property
    def amount(self) -> str:
        """The quantity in the priced unit, as people read it."""
        return plain(pricing.quantity_in_units(self.meter, self.quantity).normalize())


@dataclass(frozen=True)
class Costs:
    """What a deployment has cost: nano-dollars, and base units of NTC as they were charged."""

    meters: list[MeterCost]
    nano_usd: int
    owner_units: int
    commission_units: int

    @property
    def units(self) -> int:
        return self.owner_units + self.commission_units


@dataclass(frozen=True)
class DeploymentScreen:
    """How a deployment is, without what it costs: what the API answers to an order, so two queries and no more."""

    deployment: Deployment
    lease: LeaseSummary | None

    @property
    def url(self) -> str:
        """Where the app answers; empty while it does not."""
        return _url(self.deployment, self.lease)


@dataclass(frozen=True)
class AppScreen:
    """Everything the app's page shows of its deployment. Burn in nano-dollars per hour, commission included."""

    app: App
    deployment: Deployment | None
    lease: LeaseSummary | None
    costs: Costs
    burn_nano_usd: int
    burn_is_measured: bool
    available_units: int
    missing_units: int  # what must be bought until what grace has stopped runs again; 0 when nothing is
    seconds_left: int | None
    replicas: list[ReplicaRow]
    failovers: list[FailoverRow]
    version: str
    can: dict[str, bool]

    @property
    def url(self) -> str:
        """Where the app answers; empty while it does not."""
        return _url(self.deployment, self.lease)

    @property
    def cost_words(self) -> str:
        return f"{money.format_nano_usd(self.costs.nano_usd)} of use, and the commission"

    @property
    def burn_words(self) -> str:
        return f"{money.format_nano_usd(self.burn_nano_usd)} an hour"

    @property
    def burn_hint(self) -> str:
        if not self.burn_nano_usd:
            return "Nothing while it does not run"
        if self.deployment is not None and self.deployment.state in AT_REST:
            return "For the data it keeps while it is stopped"
        return "Measured, over the last hour at most" if self.burn_is_measured else "As you expected; not measured yet"

    @property
    def left_words(self) -> str:
        return duration(self.seconds_left) if self.seconds_left is not None else "–"

    @property
    def generation(self) -> int:
        """The newest number given to one of its replicas; 0 while there is none."""
        return max((row.generation for row in self.replicas), default=0)

    @property
    def left_hint(self) -> str:
        return f"of {money.format_ntc(self.available_units)} at this rate"


def deployment_screen(app: App) -> DeploymentScreen | None:
    """Return how the app's live deployment is, or else the last deleted one; None if it was never deployed."""
    deployment = queries.latest_deployment(app)
    if deployment is None:
        return None
    deleted = deployment.state == DeploymentState.DELETED
    return DeploymentScreen(deployment, None if deleted else nodes_queries.lease_summary(deployment.pk))


def app_screen(app: App, *, by: Any, now: datetime) -> AppScreen:
    """Return the live part of an app's page; a constant number of queries."""
    deployment = queries.latest_deployment(app)
    live = deployment if deployment is not None and deployment.state != DeploymentState.DELETED else None
    periods = queries.periods_of(deployment) if deployment is not None else []
    burn, measured = _burn(live, now)
    balance = balances(app.publisher_id)
    available = balance.available
    events = deployment.events.count() if deployment is not None else 0
    replicas = replica_queries.replicas_of(live.pk, wanted=_wanted_replicas(live)) if live is not None else []
    failovers = replica_queries.failovers_of(deployment.pk) if deployment is not None else []
    moved = replica_queries.fingerprint(replicas, failovers)
    return AppScreen(
        app=app,
        deployment=deployment,
        lease=nodes_queries.lease_summary(live.pk) if live is not None else None,
        costs=costs_of(periods),
        burn_nano_usd=burn,
        burn_is_measured=measured,
        available_units=available,
        missing_units=_missing(live, balance, now),
        seconds_left=_seconds_left(available, burn, now),
        replicas=replicas,
        failovers=failovers,
        version=f"{deployment.state if deployment else 'none'}-{events}-{sum(row.step for row in periods)}-{available}-{moved}",
        can={
            "deploy": policies.can_deploy(by, app, live),
            "start": policies.can_start(by, live, app),
            "stop": policies.can_stop(by, live, app),
            "redeploy": policies.can_redeploy(by, live, app),
            "rollback": live is not None
            and live.previous_release_id is not None
            and policies.can_redeploy(by, live, app),
            "scale": policies.can_scale(by, live, app),
            "delete": policies.can_delete(by, live, app),
            "change": policies.can_change_app(by, app),
        },
    )


def costs_of(periods: list[ChargePeriod]) -> Costs:
    """Return what the periods came to."""
    return Costs(
        meters=[
            MeterCost(meter, pricing.UNITS[meter].label, pricing.UNITS[meter].name, row["quantity"], row["nano_usd"])
            for meter, row in queries.per_meter(periods).items()
        ],
        nano_usd=sum(period.nano_usd for period in periods),
        owner_units=sum(period.owner_units for period in periods),
        commission_units=sum(period.commission_units for period in periods),
    )


@dataclass(frozen=True)
class EstimateScreen:
    """An estimate with its NTC side; `hour_units` is None while there is no rate."""

    use: ExpectedUse
    result: Estimate
    rows: list[dict[str, Any]]
    owner: dict[str, int]
    commission: dict[str, int]
    total: dict[str, int]
    total_units: dict[str, int] | None
    hour_units: int | None
    available_units: int
    covered: bool


def estimate_screen(*, use: ExpectedUse, publisher_id: int, now: datetime, region: str = Region.US) -> EstimateScreen:
    """Return what the expected use costs at the prices and rate in force.

    Raises:
        NoPriceList.
    """
    prices = queries.price_list_in_force(now=now, region=region).prices_by_meter()
    result = estimate(use, prices, queries.typical_instructions_per_second())
    available = available_units(publisher_id)
    try:
        units = {span: hour_in_units(result.total[span], now) for span in SPANS}
    except NoRate:
        units = None
    return EstimateScreen(
        use=use,
        result=result,
        rows=[
            {"label": pricing.UNITS[meter].label, "meter": meter.value, **spans}
            for meter, spans in result.meters.items()
        ],
        owner=result.owner,
        commission=result.commission,
        total=result.total,
        total_units=units,
        hour_units=units["hour"] if units else None,
        available_units=available,
        covered=units is not None and available > 0 and available >= units["hour"],
    )


def chart(charges: list[Charge]) -> dict[str, list[int] | list[str]]:
    """Return times (epoch seconds) and dollars spent up to each, for the drawing; text keeps floats out until the browser."""
    spent = 0
    times: list[int] = []
    dollars: list[str] = []
    for charge in charges:
        spent += charge.nano_usd
        times.append(int(charge.at.timestamp()))
        dollars.append(f"{spent // money.NANO}.{spent % money.NANO:09d}")
    return {"times": times, "dollars": dollars}


def plain(value: Any) -> str:
    """Return a Decimal without exponent, at most six decimals, with thousands separated."""
    text = f"{value:,.6f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _wanted_replicas(deployment: Deployment) -> int:
    return deployment.replicas if deployment.desired == Desired.RUNNING and deployment.state not in AT_REST else 0


def _url(deployment: Deployment | None, lease: LeaseSummary | None) -> str:
    serving = (DeploymentState.RUNNING, DeploymentState.UNHEALTHY)
    return lease.url if deployment is not None and lease is not None and deployment.state in serving else ""


def _burn(deployment: Deployment | None, now: datetime) -> tuple[int, bool]:
    if deployment is None or deployment.state not in (*ASKED_TO_RUN, *AT_REST):
        return 0, False
    measured = queries.measured_burn([deployment.pk], now).get(deployment.pk)
    if measured is None and deployment.state in AT_REST:
        return 0, False
    if measured is None:
        return deployment.expected_nano_usd_per_hour, False
    return measured + money.commission_units(measured)[0], True


def _missing(deployment: Deployment | None, balance: Balances, now: datetime) -> int:
    if deployment is None or deployment.grace_started_at is None or deployment.desired != Desired.RUNNING:
        return 0
    try:
        return missing_units(hour_in_units(deployment.expected_nano_usd_per_hour, now), balance)
    except NoRate:
        return 0


def _seconds_left(available: int, burn: int, now: datetime) -> int | None:
    if burn <= 0:
        return None
    try:
        return int(available * Fraction(rate_in_force(now)) * 3600 / burn)
    except NoRate:
        return None
