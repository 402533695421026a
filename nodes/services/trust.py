"""Keep the sums a device's reliability is computed from (nodes/reliability.py), and the figure itself.

Only what the portal saw counts, never what a device says of itself. Older things count less: every day takes 2.3 % of each
sum away, which halves it in 30 days, so that a bad week is forgiven and a good year does not excuse a bad month.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from nodes import traffic_check
from nodes.agent.protocol import Mode, Reason
from nodes.models import CappedClaim, Device, DeviceHistory, Lease
from nodes.reliability import History, explained_bytes, reliability
from nodes.services import spot_checks
from nodes.states import DeviceState
from nodes.traffic_check import Traffic

LONGEST_UNSEEN = timedelta(minutes=5)
"""Of a longer time between two looks only so much counts: the portal itself may have been away."""
FADE_EVERY, KEPT_PERMILLE = timedelta(days=1), 977
SUMS = tuple(set(History.__dataclass_fields__) - {"capped_days", "claimed_bytes", "explained_bytes"})
CAPPED_DAYS = 30
BATCH = 500


def observe() -> None:
    """1. A history for each device that has none. 2. Who is there and who is away. 3. Starts. 4. Let older things fade.
    Safe to run at any time, by any number of workers: a history is advanced by compare-and-set on when it was last."""
    now = timezone.now()
    _begin(now)
    for since in list(DeviceHistory.objects.order_by().values_list("observed_at", flat=True).distinct()):
        if since < now:
            _advance(since, now)
    _fade(now)


def rate() -> int:
    """Compute every device's reliability anew and store those that changed; returns how many."""
    changed, capped, traffic = [], capped_days(), traffic_check.of_late()
    histories = DeviceHistory.objects.exclude(device__state=DeviceState.REVOKED).select_related("device")
    for history in histories.iterator(chunk_size=BATCH):
        device_id = history.device_id
        figure = reliability(seen_of(history, capped[device_id], traffic.get(device_id)))
        if figure != history.device.reliability:
            changed.append(Device(pk=history.device_id, reliability=figure))
    Device.objects.bulk_update(changed, ["reliability"], batch_size=BATCH)
    return len(changed)


def seen_of(history: DeviceHistory, capped: int, traffic: Traffic | None) -> History:
    """Return what is known of a device, from its stored sums, its days with capped claims, and both counts of its traffic."""
    sums = {name: getattr(history, name) for name in SUMS}
    if traffic is None:
        return History(**sums, capped_days=capped)
    explained = explained_bytes(seen=traffic.seen, uptime_milliseconds=traffic.uptime_milliseconds)
    return History(**sums, capped_days=capped, claimed_bytes=traffic.claimed, explained_bytes=explained)


def traffic_of(device: Device) -> Traffic | None:
    """Return both counts of one device's traffic of late."""
    return traffic_check.of_late(device).get(device.pk)


def capped_days(device: Device | None = None) -> Counter[UUID]:
    """Return on how many of the last 30 days each device, or this one, claimed more than was possible."""
    rows = CappedClaim.objects.filter(day__gt=timezone.now().date() - timedelta(days=CAPPED_DAYS)).order_by()
    if device is not None:
        rows = rows.filter(device=device)
    return Counter(device_id for device_id, _ in rows.values_list("device_id", "day").distinct())


def _begin(now: datetime) -> None:
    new = Device.objects.filter(history=None).exclude(state__in=[DeviceState.PENDING, DeviceState.REVOKED])
    DeviceHistory.objects.bulk_create(
        [
            DeviceHistory(
                device=device, observed_at=now, faded_at=now, next_chance_at=spot_checks.first_chance(device, now)
            )
            for device in new
        ],
        ignore_conflicts=True,
    )


@transaction.atomic
def _advance(since: datetime, now: datetime) -> None:
    """Count what happened to all histories that stand at `since`, and let them stand at `now`."""
    device_ids = list(
        DeviceHistory.objects.select_for_update().filter(observed_at=since).values_list("device_id", flat=True)
    )
    seconds = min(now - since, LONGEST_UNSEEN) // timedelta(seconds=1)
    mine = DeviceHistory.objects.filter(observed_at=since)
    away = Q(device__state=DeviceState.OFFLINE) & ~Q(device__local_mode=Mode.CLOSED.value)
    mine.filter(device__state=DeviceState.ONLINE).update(online_seconds=F("online_seconds") + seconds)
    mine.filter(away).update(away_seconds=F("away_seconds") + seconds)
    for name, count in _starts(since, now).items():
        for device_id, number in count.items():
            mine.filter(device_id=device_id).update(**{name: F(name) + number})
    DeviceHistory.objects.filter(device_id__in=device_ids, observed_at=since).update(observed_at=now)


def _starts(since: datetime, now: datetime) -> dict[str, Counter[UUID]]:
    """Return how many leases came to run, and how many did not through their device's fault, by device."""
    ran = Lease.objects.filter(running_at__gt=since, running_at__lte=now)
    failed = Lease.objects.filter(stopped_at__gt=since, stopped_at__lte=now, reason=Reason.DEVICE_ERROR.value)
    return {"starts": _by_device(ran), "failed_starts": _by_device(failed)}


def _by_device(leases: Iterable[Lease]) -> Counter[UUID]:
    return Counter(lease.device_id for lease in leases)


def _fade(now: datetime) -> None:
    due = DeviceHistory.objects.filter(faded_at__lte=now - FADE_EVERY)
    due.update(faded_at=F("faded_at") + FADE_EVERY, **{name: F(name) * KEPT_PERMILLE / 1000 for name in SUMS})
