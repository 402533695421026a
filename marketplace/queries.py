"""What services and screens read. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Count, F, OuterRef, Prefetch, Q, QuerySet, Subquery, Sum
from django.utils import timezone

from interchain_site.core.models import User
from marketplace import policies, pricing
from marketplace.errors import NoPriceList, NotYours
from marketplace.models import App, Charge, ChargePeriod, Deployment, PriceList, Release
from marketplace.states import ASKED_TO_RUN, AT_REST, DeploymentState, PriceListState
from nodes.agent.protocol import Meter
from nodes.models import Device, Lease, WipeReceipt
from nodes.regions import Region
from nodes.states import DeviceState, LeaseState

BURN_WINDOW_SECONDS = 3600
BURN_SETTLES_SECONDS = 300
"""A start costs much and once: until this much was measured, what was spent counts as spread over this long."""
INSTRUCTIONS_PER_SECOND = 1_000_000_000  # of one core, said where no device is online to ask
BENCHMARKED_DEVICES = 20


# --- apps and deployments ------------------------------------------------------------------------------------------
def apps_of(user: User) -> QuerySet[App]:
    """Return a person's apps with `release_count`, and the live deployment in `live` (a list of one or none)."""
    live = Deployment.objects.exclude(state=DeploymentState.DELETED).select_related("release")
    return (
        App.objects.filter(publisher=user)
        .annotate(release_count=Count("releases"))
        .prefetch_related(Prefetch("deployments", queryset=live, to_attr="live"))
    )


def app_for(by: User, slug: str) -> App:
    """Return an app that `by` may see.

    Raises:
        NotYours: there is none, or it is somebody else's.
    """
    app = App.objects.select_related("publisher").filter(slug=slug).first()
    if app is None:
        raise NotYours
    policies.check_can_see_app(by, app)
    return app


def release_of(app: App, number: int | None) -> Release | None:
    """Return a release by number, or the newest for None; None when there is no such release."""
    releases = app.releases.select_related("app")
    return releases.filter(number=number).first() if number is not None else releases.order_by("-number").first()


def newest_release(app: App) -> Release | None:
    return release_of(app, None)


def live_deployment(app: App) -> Deployment | None:
    """Return the deployment that is not deleted, with release and price list."""
    return _live(app).select_related("app", "release", "price_list").first()


def latest_deployment(app: App) -> Deployment | None:
    """Return the live deployment or else the last deleted one, which has the wipe receipt."""
    return app.deployments.select_related("app", "release", "price_list").order_by("-created_at").first()


def lock_live_deployment(app: App) -> Deployment | None:
    """Return the live deployment locked for the caller's transaction."""
    return _live(app).select_for_update(of=("self",)).select_related("app", "release", "price_list").first()


def _live(app: App) -> QuerySet[Deployment]:
    return Deployment.objects.filter(app=app).exclude(state=DeploymentState.DELETED)


# --- prices --------------------------------------------------------------------------------------------------------
def price_list_in_force(*, now: datetime | None = None, region: str = Region.US) -> PriceList:
    """Return the prices a new deployment gets, prefetched.

    Raises:
        NoPriceList: none is published for the region.
    """
    found = (
        PriceList.objects.filter(state=PriceListState.PUBLISHED, region=region, effective_at__lte=now or timezone.now())
        .order_by("-effective_at")
        .prefetch_related("prices")
        .first()
    )
    if found is None:
        raise NoPriceList
    return found


def price_lists_in_force(now: datetime) -> list[PriceList]:
    """Return the list in force of each region, prefetched."""
    newest = (
        PriceList.objects.filter(state=PriceListState.PUBLISHED, effective_at__lte=now, region=OuterRef("region"))
        .order_by("-effective_at")
        .values("pk")[:1]
    )
    return list(PriceList.objects.filter(pk=Subquery(newest)).order_by("region").prefetch_related("prices"))


def price_lists_to_come(now: datetime) -> list[PriceList]:
    """Return published lists that are not in force yet, soonest first, prefetched."""
    coming = PriceList.objects.filter(state=PriceListState.PUBLISHED, effective_at__gt=now)
    return list(coming.order_by("effective_at").prefetch_related("prices"))


def typical_instructions_per_second() -> int:
    """Return what a core of the devices online executes, on average; what an estimate of CPU time is priced by."""
    online = Device.objects.filter(state=DeviceState.ONLINE).only("benchmark")[:BENCHMARKED_DEVICES]
    rates = [device.instructions_per_second for device in online if device.instructions_per_second]
    return sum(rates) // len(rates) if rates else INSTRUCTIONS_PER_SECOND


# --- use and cost --------------------------------------------------------------------------------------------------
def usage_between(region: str, since: datetime, until: datetime) -> dict[Meter, int]:
    """Return the whole use charged in a region between two moments, in base units."""
    rows = Charge.objects.filter(period__price_list__region=region, at__gte=since, at__lt=until)
    sums = rows.aggregate(**{meter.value: Sum(meter.value) for meter in Meter})
    return {meter: int(sums[meter.value] or 0) for meter in Meter}


def periods_of(deployment: Deployment) -> list[ChargePeriod]:
    """Return every charge period of a deployment with prices, oldest first."""
    rows = deployment.charge_periods.select_related("price_list").prefetch_related("price_list__prices")
    return list(rows.order_by("opened_at", "id"))


def measured_burn(deployment_ids: Iterable[UUID], now: datetime) -> dict[UUID, int]:
    """Return nano-dollars per hour, without commission, of each deployment charged within the last hour.

    Of one at rest only what came after its stop counts: what it burned while it ran says nothing of its data's cost.
    """
    since = now - timedelta(seconds=BURN_WINDOW_SECONDS)
    rows = (
        Charge.objects.filter(deployment_id__in=list(deployment_ids), at__gt=since)
        .filter(~Q(deployment__state__in=AT_REST) | Q(since__gte=F("deployment__state_changed_at")))
        .order_by()
        .values("deployment_id")
        .annotate(nano=Sum("nano_usd"), spent=Sum("seconds"))
    )
    return {row["deployment_id"]: row["nano"] * 3600 // max(row["spent"], BURN_SETTLES_SECONDS) for row in rows}


def recent_charges(deployment: Deployment, *, count: int = 60) -> list[Charge]:
    """Return the last charges, oldest first, for the chart."""
    return list(deployment.charges.order_by("-at", "-id")[:count])[::-1]


def costing() -> QuerySet[Deployment]:
    """Return what costs its publisher something now: what is asked to run, and what is at rest with data on a device."""
    with_data = Lease.objects.filter(has_volume=True).exclude(state=LeaseState.WIPED)
    return Deployment.objects.filter(
        Q(state__in=ASKED_TO_RUN) | Q(state__in=AT_REST, pk__in=with_data.values("workload_id"))
    )


def costing_of(publisher_ids: Sequence[int]) -> list[Deployment]:
    """Return what costs these people something now, with app and publisher."""
    rows = costing().filter(app__publisher_id__in=publisher_ids)
    return list(rows.select_related("app__publisher").order_by("created_at"))


def per_meter(periods: Iterable[ChargePeriod]) -> dict[Meter, dict[str, int]]:
    """Return quantity (base units) and price (nano-dollars, without commission) of each meter over all periods."""
    sums = {meter: {"quantity": 0, "nano_usd": 0} for meter in Meter}
    for period in periods:
        used = pricing.difference(pricing.from_json(period.totals), pricing.from_json(period.baseline))
        prices = pricing.price_per_meter(used, period.price_list.prices_by_meter())
        for meter in Meter:
            sums[meter]["quantity"] += used[meter]
            sums[meter]["nano_usd"] += prices[meter]
    return sums


# --- what nodes keeps as evidence ------------------------------------------------------------------------------------
def wipe_receipts(workload_id: UUID) -> list[str] | None:
    """Return the signed receipts of a workload, oldest first, or None while any of its leases is not wiped."""
    if Lease.objects.filter(workload_id=workload_id).exclude(state=LeaseState.WIPED).exists():
        return None
    rows = WipeReceipt.objects.filter(lease__workload_id=workload_id)
    return list(rows.order_by("wiped_at", "id").values_list("jws", flat=True))


def deployment_ids(app: App) -> list[UUID]:
    """Return the ids of all deployments an app ever had."""
    return list(Deployment.objects.filter(app=app).values_list("pk", flat=True))
