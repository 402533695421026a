"""What the gateways say of themselves in Redis, for staff: a table that shrank too much at once is not taken (nodes/gateway/guard.py)."""

from __future__ import annotations

import json
import time

from interchain_site.core import audit, redis
from interchain_site.core.alerts import clear_alert, raise_alert
from interchain_site.core.models import User
from nodes.services.routes import ALL, CHANGED_CHANNEL, CONFIRMED_KEY, GUARD_KEY

CODE = "routes_vanished"
FRESH_SECONDS = 60
CONFIRMED_SECONDS = 600


def held() -> dict[str, int]:
    """Return how many apps each gateway goes on serving against the table; gateways that went silent are left out."""
    found = {}
    for gateway, text in redis.connection().hgetall(GUARD_KEY).items():
        facts = json.loads(text)
        if facts["at"] > time.time() - FRESH_SECONDS:
            found[str(gateway)] = int(facts["held"])
    return found


def watch() -> None:
    """Tell staff while any gateway holds on to apps that vanished, and clear it when none does."""
    found = held()
    if not found:
        clear_alert(code=CODE)
        return
    words = ", ".join(f"{gateway}: {number}" for gateway, number in sorted(found.items()))
    raise_alert(
        code=CODE,
        message=f"More live apps vanished from the routes at once than is usual. Gateways go on serving them ({words}).",
        mend="Find out why the portal no longer lists them. If it is right, type: manage.py confirm_routes",
    )


def confirm(*, by: User | None) -> int:
    """Let the gateways take the smaller table; returns how many apps they held in all."""
    found = held()
    client = redis.connection()
    client.set(CONFIRMED_KEY, time.time(), ex=CONFIRMED_SECONDS)
    client.publish(CHANGED_CHANNEL, ALL)
    audit.record("routes_confirmed", subject="gateways", by=by, held=sum(found.values()))
    return sum(found.values())
