"""Make everything heal by itself: what a lost message or a killed process left undone is found here and done."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.utils import timezone
from redis import RedisError

from billing.queries import available_of_many
from interchain_site.core import redis
from marketplace import emails, queries
from marketplace.models import Deployment
from marketplace.services import charging, enforcement, following
from marketplace.states import DeploymentState
from nodes.models import MeterTotal

_S = DeploymentState
UNSETTLED = (_S.STARTING, _S.STOPPING, _S.WAITING, _S.UNHEALTHY, _S.DELETING)
MOST = 500
NOTICE_OVERDUE_SECONDS = 60
QUEUE_KNOWN_KEY = "marketplace:queue-known"
"""There for as long as Redis keeps its data; when it is gone, so is what was queued."""


def sweep(*, now: datetime | None = None) -> None:
    """Steps: states follow their leases · zero balances stop · paid graces restart · ended graces wipe."""
    now = now or timezone.now()
    unsettled = Deployment.objects.filter(state__in=UNSETTLED).order_by("state_changed_at")[:MOST]
    for deployment in [*unsettled, *following.out_of_step(MOST)]:
        enforcement.guarded(_follow, deployment, now)
    people = queries.costing().order_by().values_list("app__publisher_id", flat=True)
    enforcement.enforce(publisher_ids=set(people.distinct()), now=now)
    in_grace = Deployment.objects.filter(state=_S.GRACE).values_list("app__publisher_id", flat=True)
    for publisher_id, units in available_of_many(list(set(in_grace))).items():
        if units > 0:
            enforcement.resume(publisher_id=publisher_id, now=now)
    enforcement.end_graces(now=now)


def overdue_notices(*, now: datetime | None = None) -> list[int]:
    """Return the messages that should have been sent by now: all that are owed when Redis lost its data, and the queue with it."""
    waits = 0 if _queue_was_lost() else NOTICE_OVERDUE_SECONDS
    return emails.unsent(before=(now or timezone.now()) - timedelta(seconds=waits))


def _queue_was_lost() -> bool:
    try:
        return bool(redis.connection().set(QUEUE_KNOWN_KEY, "1", nx=True))
    except RedisError:
        return False


def recharge_all(*, now: datetime | None = None) -> int:
    """Compare every lease's totals with what was charged and charge the difference; returns how many had one.

    Normally none has: the cursor of charging misses nothing. This is the belt to those braces.
    """
    charged = 0
    lease_ids: list[UUID] = list(MeterTotal.objects.order_by("lease_id").values_list("lease_id", flat=True).distinct())
    for start in range(0, len(lease_ids), charging.BATCH_LEASES):
        charged += charging.charge_leases(lease_ids=lease_ids[start : start + charging.BATCH_LEASES], now=now).leases
    return charged


def _follow(deployment_id: UUID, now: datetime) -> None:
    following.follow(deployment_id=deployment_id, now=now)
