"""Publish which device answers for which name, for the gateways (nodes/gateway).

The hash `gateway:routes` holds one JSON document per name; the channel `gateway:changed` names what changed, or `*`.
Redis may lose all of it: `republish_all` writes it again from the database. A document carries its `order`, and an older
one never replaces a newer one, so that two processes may publish in any order.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from redis import RedisError

from interchain_site.core import redis
from nodes.agent.protocol import Action
from nodes.models import Lease
from nodes.services import succession
from nodes.states import LeaseState

ROUTES_KEY = "gateway:routes"
COMPLETE_KEY = "gateway:complete"
CHANGED_CHANNEL = "gateway:changed"
OPTIONS_KEY = "gateway:options"  # hash: name → domains, limits, dates (nodes/services/route_options.py)
GUARD_KEY = "gateway:guard"  # hash: gateway → what it holds against the table (nodes/gateway/guard.py)
CONFIRMED_KEY = "gateway:confirmed"  # when staff said that a smaller table is right, seconds of 1970
ALL = "*"
READ = (
    *("workload_id", "name", "generation", "slot", "is_newest", "action", "state", "host_port", "revision"),
    *("opened_at", "reinstated_at", "device__endpoint_host", "device__tunnelled"),
)
"""All of a lease that its route is made of."""

_SET_IF_NEWER = """
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known then
  local order = cjson.decode(known)['order']
  if order[1] > tonumber(ARGV[3]) or (order[1] == tonumber(ARGV[3]) and order[2] > tonumber(ARGV[4])) then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PUBLISH', KEYS[2], ARGV[1])
return 1
"""

log = structlog.get_logger()


def url_of(name: str) -> str:
    """Return the address under which clients reach a name."""
    parts = urlsplit(settings.GATEWAY_PUBLIC_URL)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{name}.{settings.GATEWAY_DOMAIN}{port}"


def publish(lease: Lease) -> None:
    """Publish the route of this lease's name, as the database has it once the transaction is committed."""
    publish_many([lease.workload_id])


def publish_many(workload_ids: Collection[UUID]) -> None:
    """Publish the routes of workloads, as the database has them once the transaction is committed."""
    transaction.on_commit(lambda: publish_workloads(workload_ids))


def publish_workloads(workload_ids: Collection[UUID]) -> None:
    """Publish the routes of workloads as the database has them now: one query, one round trip."""
    _write(_documents(_routed().filter(workload_id__in=workload_ids)))


def document_of(routed: Sequence[Lease]) -> dict[str, Any]:
    """Return what a gateway needs to serve a workload, from its leases that are newest or wanted; status "" when it is wiped."""
    serving = succession.in_order(routed)
    newest = max(routed, key=lambda lease: lease.generation)
    return {
        "name": newest.name,
        "workload_id": str(newest.workload_id),
        "generation": newest.generation,
        "status": "live" if serving else _status(routed),
        "upstreams": [succession.endpoint_of(lease) for lease in serving],
        # Milliseconds, because Lua's numbers are exact to 2^53 only.
        "order": [
            int(max(lease.reinstated_at or lease.opened_at for lease in routed).timestamp() * 1000),
            sum(lease.revision for lease in routed if lease.is_newest),
        ],
    }


def _status(routed: Sequence[Lease]) -> str:
    if any(lease.action == Action.RUN.value for lease in routed):
        return "starting"
    return "" if all(lease.state == LeaseState.WIPED for lease in routed) else "stopped"


def republish_all() -> int:
    """Make Redis say what the database says; returns how many names were written or removed."""
    wanted = {}
    found = sorted((document for document in _documents(_routed()) if document["status"]), key=lambda one: one["order"])
    for document in found:  # of one name the one in force last
        wanted[document["name"]] = json.dumps(document, sort_keys=True)
    client = redis.connection()
    known = client.hgetall(ROUTES_KEY)
    changed = {name: text for name, text in wanted.items() if known.get(name) != text}
    gone = [name for name in known if name not in wanted]
    # The mark is lost with Redis's data: until it is back, gateways keep the routes they have.
    if changed or gone or not client.exists(COMPLETE_KEY):
        with client.pipeline() as pipeline:
            if changed:
                pipeline.hset(ROUTES_KEY, items=[part for pair in changed.items() for part in pair])
            if gone:
                pipeline.hdel(ROUTES_KEY, *gone)
            pipeline.set(COMPLETE_KEY, "1")
            pipeline.publish(CHANGED_CHANNEL, ALL)
            pipeline.execute()
    return len(changed) + len(gone)


def _documents(leases: QuerySet[Lease]) -> Iterator[dict[str, Any]]:
    """Return the document of every workload that these leases are of."""
    rows = leases.order_by("workload_id").iterator()
    for _, routed in groupby(rows, key=lambda lease: lease.workload_id):
        yield document_of(list(routed))


def _routed() -> QuerySet[Lease]:
    rows = Lease.objects.filter(Q(is_newest=True) | Q(action=Action.RUN.value)).select_related("device")
    return rows.only(*READ)


def _write(documents: Iterable[dict[str, Any]]) -> None:
    set_if_newer = redis.script(_SET_IF_NEWER)
    names: list[str] = []
    try:
        with redis.connection().pipeline(transaction=False) as pipeline:
            for document in documents:
                name = str(document["name"])
                names.append(name)
                if not document["status"]:
                    pipeline.hdel(ROUTES_KEY, name)
                    pipeline.publish(CHANGED_CHANNEL, name)
                    continue
                text = json.dumps(document, sort_keys=True)
                keys, values = [ROUTES_KEY, CHANGED_CHANNEL], [name, text, *document["order"]]
                set_if_newer(keys=keys, args=values, client=pipeline)
            pipeline.execute()
    except RedisError as error:
        log.warning("routes_not_published", names=names[:10], count=len(names), error=str(error))
