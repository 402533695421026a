"""The figures of the public status page: of whole regions only, nothing of a single device, owner or app.

Counted at most once in FRESH_SECONDS whatever the number of readers: who comes while somebody counts gets the figures before.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from datetime import datetime
from math import sqrt

from django.core.cache import cache
from django.db.models import Count
from django.utils import timezone

from nodes.agent.protocol import Action
from nodes.models import Device, Failover, Lease
from nodes.regions import CENTRES, Region
from nodes.replica_queries import seconds_in_words
from nodes.states import DeviceState, LeaseState

FRESH_SECONDS = 15
KEPT_SECONDS = 3600
MOST_FAILOVERS = 1000  # the newest of the day, which the median is taken from
_KEY, _TURN = "nodes:public-status", "nodes:public-status:turn"
MAP_WIDTH, MAP_HEIGHT, NORTH = 720, 284, 84  # static/vendor/world-atlas/land.svg: half a degree to the unit
_DOT, _MOST_DOT = 5.0, 16.0


@dataclass(frozen=True)
class RegionRow:
    """One region: how much of everything is there, and where its dot is on the map."""

    name: str
    devices: int
    apps: int
    x: float
    y: float

    @property
    def radius(self) -> float:
        """Of its dot: its area follows the number of devices."""
        return round(min(_MOST_DOT, _DOT + sqrt(self.devices)), 1)


@dataclass(frozen=True)
class PublicStatus:
    """All the page shows."""

    counted_at: datetime
    regions: list[RegionRow]
    devices: int
    apps: int
    replicas: int
    failovers: int
    under_way: int
    median_seconds: float | None

    @property
    def replicas_words(self) -> str:
        return f"In {self.replicas:,} replica{'' if self.replicas == 1 else 's'}"

    @property
    def failover_words(self) -> str:
        return f"{self.under_way:,} under way" if self.under_way else "None under way"

    @property
    def median_recovery(self) -> str:
        return seconds_in_words(self.median_seconds)


def current() -> PublicStatus:
    """Return the figures, counted anew when they are older than FRESH_SECONDS and nobody else is counting."""
    known: PublicStatus | None = cache.get(_KEY)
    if known is not None and (timezone.now() - known.counted_at).total_seconds() < FRESH_SECONDS:
        return known
    if known is not None and not cache.add(_TURN, 1, FRESH_SECONDS):
        return known
    counted = count()
    cache.set(_KEY, counted, KEPT_SECONDS)
    return counted


def count() -> PublicStatus:
    """Count everything now, in five queries."""
    now = timezone.now()
    devices = dict(
        Device.objects.filter(state=DeviceState.ONLINE).order_by().values_list("region").annotate(Count("pk"))
    )
    running = Lease.objects.filter(state=LeaseState.RUNNING, action=Action.RUN.value)
    per_region = running.order_by().values_list("device__region").annotate(Count("workload_id", distinct=True))
    apps = dict(per_region)
    total = running.aggregate(apps=Count("workload_id", distinct=True), replicas=Count("pk"))
    today = Failover.objects.filter(noticed_at__gte=now.replace(hour=0, minute=0, second=0, microsecond=0))
    newest = list(today[:MOST_FAILOVERS])
    took = [seconds for row in newest if (seconds := row.recovery_seconds) is not None]
    return PublicStatus(
        counted_at=now,
        regions=[_region(region, devices.get(region, 0), apps.get(region, 0)) for region in Region],
        devices=sum(devices.values()),
        apps=total["apps"],
        replicas=total["replicas"],
        failovers=today.count(),
        under_way=sum(row.ended_at is None for row in newest),
        median_seconds=statistics.median(took) if took else None,
    )


def _region(region: Region, devices: int, apps: int) -> RegionRow:
    latitude, longitude = CENTRES[region]
    return RegionRow(
        str(region.label), devices, apps, round((longitude + 180) * 2, 1), round((NORTH - latitude) * 2, 1)
    )
