"""Publish for the gateways what a name has beside its place: domains, limits, dates. A hash of its own, `gateway:options`, so
that a lease that moves need not know of it."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime
from typing import Any

import structlog
from django.db import transaction
from redis import RedisError

from interchain_site.core import redis
from nodes.models import Lease, RouteDomain, RouteOptions
from nodes.services.routes import ALL, CHANGED_CHANNEL, OPTIONS_KEY
from nodes.states import LeaseState

log = structlog.get_logger()


@transaction.atomic
def set_domain(*, host: str, name: str) -> None:
    """Serve a domain as this name, and as no other any more."""
    before = RouteDomain.objects.filter(host=host).first()
    RouteDomain.objects.update_or_create(host=host, defaults={"name": name})
    publish(name, *({before.name} if before else ()))


@transaction.atomic
def drop_domain(*, host: str, name: str) -> None:
    """Stop serving a domain, if it is this name's."""
    RouteDomain.objects.filter(host=host, name=name).delete()
    publish(name)


@transaction.atomic
def set_grace(*, name: str, ends_at: datetime | None) -> None:
    """Let the page of a stopped app say until when its data is kept; None when there is no such date."""
    if ends_at is not None:
        RouteOptions.objects.update_or_create(name=name, defaults={"grace_ends_at": ends_at})
    elif not RouteOptions.objects.filter(name=name, grace_ends_at__isnull=False).update(grace_ends_at=None):
        return
    publish(name)


def is_served(host: str) -> bool:
    """Return whether a publisher's domain is proven and belongs to a name that something is leased for."""
    names = RouteDomain.objects.filter(host=host).values("name")
    return Lease.objects.filter(name__in=names, is_newest=True).exclude(state=LeaseState.WIPED).exists()


def publish(*names: str) -> None:
    """Tell the gateways when the transaction commits."""
    transaction.on_commit(lambda: _write(names))


def republish_all() -> None:
    """Make Redis say what the database says."""
    wanted: dict[Any, Any] = {name: json.dumps(found, sort_keys=True) for name, found in _documents(None).items()}
    client = redis.connection()
    known = client.hgetall(OPTIONS_KEY)
    gone = [name for name in known if name not in wanted]
    if wanted != known:
        with client.pipeline() as pipeline:
            if wanted:
                pipeline.hset(OPTIONS_KEY, mapping=wanted)
            if gone:
                pipeline.hdel(OPTIONS_KEY, *gone)
            pipeline.publish(CHANGED_CHANNEL, ALL)
            pipeline.execute()


def _write(names: tuple[str, ...]) -> None:
    found = _documents(names)
    try:
        client = redis.connection()
        for name in names:
            if name in found:
                client.hset(OPTIONS_KEY, name, json.dumps(found[name], sort_keys=True))
            else:
                client.hdel(OPTIONS_KEY, name)
            client.publish(CHANGED_CHANNEL, name)
    except RedisError as error:  # republish_all makes up for it
        log.warning("route_options_not_published", names=names, error=str(error))


def _documents(names: tuple[str, ...] | None) -> dict[str, dict[str, Any]]:
    """Return what these names have, all names for None; two queries."""
    chosen = {} if names is None else {"name__in": names}
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for domain in RouteDomain.objects.filter(**chosen).order_by("host"):
        found[domain.name].setdefault("domains", []).append(domain.host)
    for row in RouteOptions.objects.filter(**chosen):
        if row.max_body_bytes:
            found[row.name]["max_body_bytes"] = row.max_body_bytes
        if row.requests_per_second:
            found[row.name]["requests_per_second"] = row.requests_per_second
        if row.grace_ends_at:
            found[row.name]["grace_ends_at"] = row.grace_ends_at.isoformat()
    return dict(found)
