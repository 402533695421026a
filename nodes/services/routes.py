"""Publish which device answers for which name, for the gateways (nodes/gateway).

The hash `gateway:routes` holds one JSON document per name; the channel `gateway:changed` names what changed, or `*`.
Redis may lose all of it: `republish_all` writes it again from the database. A document carries its `order`, and an older
one never replaces a newer one, so that two processes may publish in any order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.db import transaction
from redis import RedisError

from interchain_site.core import redis
from nodes.models import Lease
from nodes.services import succession
from nodes.states import LeaseState

ROUTES_KEY = "gateway:routes"
COMPLETE_KEY = "gateway:complete"
CHANGED_CHANNEL = "gateway:changed"
GUARD_KEY = "gateway:guard"  # hash: gateway → what it holds against the table (nodes/gateway/guard.py)
CONFIRMED_KEY = "gateway:confirmed"  # when staff said that a smaller table is right, seconds of 1970
ALL = "*"

_STATUS = {
    LeaseState.OFFERED: "starting",
    LeaseState.PREPARING: "starting",
    LeaseState.RUNNING: "live",
    LeaseState.UNHEALTHY: "live",
    # The portal not hearing from a device does not mean that clients cannot reach it.
    LeaseState.LOST: "live",
    LeaseState.DRAINING: "stopped",
    LeaseState.STOPPED: "stopped",
}

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
    """Publish the route of this lease's name when the transaction commits. Superseded generations have no route."""
    if lease.is_newest:
        document = None if lease.state == LeaseState.WIPED else document_of(lease)
        transaction.on_commit(lambda: _write(lease.name, document))


def document_of(lease: Lease) -> dict[str, Any]:
    """Return what a gateway needs to serve this lease's name."""
    status = _STATUS[LeaseState(lease.state)]
    if status == "live" and not lease.host_port:
        status = "starting"
    return {
        "name": lease.name,
        "workload_id": str(lease.workload_id),
        "generation": lease.generation,
        "status": status,
        "upstreams": [succession.endpoint_of(lease)] if status == "live" else [],
        # Milliseconds, because Lua's numbers are exact to 2^53 only.
        "order": [int(lease.opened_at.timestamp() * 1000), lease.revision],
    }


def republish_all() -> int:
    """Make Redis say what the database says; returns how many names were written or removed."""
    wanted = {lease.name: json.dumps(document_of(lease), sort_keys=True) for lease in _routed()}
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


def _routed() -> Iterable[Lease]:
    leases = Lease.objects.filter(is_newest=True).exclude(state=LeaseState.WIPED).select_related("device")
    return leases.order_by("opened_at", "revision").iterator()


def _write(name: str, document: dict[str, Any] | None) -> None:
    try:
        client = redis.connection()
        if document is None:
            client.hdel(ROUTES_KEY, name)
            client.publish(CHANGED_CHANNEL, name)
        else:
            text = json.dumps(document, sort_keys=True)
            client.eval(_SET_IF_NEWER, 2, ROUTES_KEY, CHANGED_CHANNEL, name, text, *document["order"])
    except RedisError as error:
        log.warning("route_not_published", name=name, error=str(error))
