"""Bring what the gateways counted in Redis into the database: users into the `active_user` total of the lease that serves
now, bytes beside them as a cross-check of `transfer`.

The sketch (HyperLogLog) of each workload and month is kept in the database too and merged back, so that losing Redis
neither forgets a user nor counts one twice. A count never falls.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from redis import ResponseError

from interchain_site.core import redis
from nodes.agent.protocol import Meter, Method
from nodes.gateway.access_log import DIRTY_KEY, bytes_key, users_key
from nodes.models import GatewayCount, Lease, MeterTotal
from nodes.services import totals

log = structlog.get_logger()


def save() -> None:
    """Save every count that changed since the last time. One that fails is tried again next time."""
    client = redis.connection()
    for member in client.smembers(DIRTY_KEY):
        # Marked clean first: what is counted meanwhile marks it again.
        client.srem(DIRTY_KEY, member)
        workload_id, _, month = str(member).partition("|")
        try:
            _save_one(UUID(workload_id), month)
        except Exception:
            client.sadd(DIRTY_KEY, member)
            raise
    for count in GatewayCount.objects.filter(users__gt=F("users_credited")):
        with transaction.atomic():
            _credit(GatewayCount.objects.select_for_update().get(pk=count.pk))


@transaction.atomic
def _save_one(workload_id: UUID, month: str) -> None:
    first_day = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).date()
    now = timezone.now()
    GatewayCount.objects.get_or_create(workload_id=workload_id, month=first_day, defaults={"updated_at": now})
    row = GatewayCount.objects.select_for_update().get(workload_id=workload_id, month=first_day)
    users, sketch = _merged(users_key(str(workload_id), month), bytes(row.sketch))
    row.users = max(row.users, users)
    row.sketch = sketch
    row.bytes += int(redis.connection().getdel(bytes_key(str(workload_id), month)) or 0)
    row.updated_at = now
    row.save(update_fields=["users", "sketch", "bytes", "updated_at"])
    _credit(row)


def _merged(key: str, saved: bytes) -> tuple[int, bytes]:
    """Put the saved sketch back into Redis's, in case Redis lost it; return the count and the sketch."""
    client = redis.binary_connection()
    if saved:
        restored = f"{key}:saved"
        try:
            client.set(restored, saved, ex=60)
            client.pfmerge(key, restored)
        except ResponseError as error:
            log.error("sketch_not_restored", key=key, error=str(error))
        finally:
            client.delete(restored)
    sketch = client.get(key)
    return int(client.pfcount(key)), sketch if isinstance(sketch, bytes) else b""


def _credit(row: GatewayCount) -> None:
    """Add the users not yet in any total to the newest lease of the workload."""
    lease = (
        Lease.objects.select_for_update().filter(workload_id=row.workload_id, is_newest=True).order_by("slot").first()
    )
    new = row.users - row.users_credited
    if lease is None or new == 0:
        return
    known = MeterTotal.objects.filter(lease=lease, meter=Meter.ACTIVE_USER.value).first()
    total = totals.Total(
        lease_id=lease.pk,
        meter=Meter.ACTIVE_USER,
        total=(known.total if known else 0) + new,
        method=Method.GATEWAY.value,
        at=timezone.now(),
    )
    totals.raise_totals([total])
    GatewayCount.objects.filter(pk=row.pk).update(users_credited=row.users)
