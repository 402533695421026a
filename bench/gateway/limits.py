"""How long a client that asks too much still gets through (docs/adr/0743): a real Caddy, syncer and log reader, one app a trial."""

from __future__ import annotations

import http.client
import json
import statistics
import threading
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

from django.test import override_settings

from bench.gateway import proxies
from interchain_site.core import redis
from interchain_site.testing.servers import free_port, valkey
from nodes.gateway.access_log import Tail
from nodes.gateway.pace import BURST_SECONDS, Pace
from nodes.gateway.syncer import Syncer
from nodes.services import routes

PER_SECOND = 20
GIVE_UP_SECONDS = 10


def reaction(folder: Path, trials: int) -> str:
    """Return a sentence: seconds, and requests, from the first request over the limit to the first that is refused."""
    listen, stop, pace = free_port(), threading.Event(), Pace()
    with ExitStack() as stack:
        upstream = stack.enter_context(proxies.upstream(folder, "limited"))
        values = {
            "REDIS_URL": stack.enter_context(valkey()),
            "GATEWAY_LISTEN": f"127.0.0.1:{listen}",
            "GATEWAY_DOMAIN": proxies.DOMAIN,
            "GATEWAY_ADMIN_URL": f"http://127.0.0.1:{stack.enter_context(proxies.caddy(folder / 'limits', {}))}",
            "GATEWAY_ACCESS_LOG": folder / "limits" / "access.log",
            "GATEWAY_CLIENT_REQUESTS_PER_SECOND": PER_SECOND,
        }
        stack.enter_context(override_settings(**values))
        for number in range(trials):
            document = {"workload_id": str(uuid.uuid4()), "status": "live", "upstreams": [f"127.0.0.1:{upstream}"]}
            redis.connection().hset(routes.ROUTES_KEY, f"app{number}", json.dumps(document | {"name": f"app{number}"}))
        redis.connection().set(routes.COMPLETE_KEY, "1")
        threads = [threading.Thread(target=run) for run in (Syncer(stop, pace).run, Tail(stop, pace).run)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(2)
            found = [_trial(listen, f"app{number}.{proxies.DOMAIN}") for number in range(trials)]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    waits, through = [seconds for seconds, _ in found], [requests for _, requests in found]
    return (
        f"A client over its limit ({PER_SECOND} a second): refused after {statistics.median(waits):.2f} s in the middle of {trials} trials, "
        f"{min(waits):.2f} to {max(waits):.2f}; {statistics.median(through):.0f} requests got through meanwhile (at most {max(through)})."
    )


def _trial(port: int, host: str) -> tuple[float, int]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_SECONDS)
    over_at, through, sent = 0.0, 0, 0
    while not over_at or time.monotonic() - over_at < GIVE_UP_SECONDS:
        sent += 1
        if sent > PER_SECOND * BURST_SECONDS and not over_at:
            over_at = time.monotonic()
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        answer.read()
        if answer.status == 429:
            connection.close()
            return time.monotonic() - over_at, through
        through += bool(over_at)
        time.sleep(0.002)
    raise SystemExit(f"{host} was not refused within {GIVE_UP_SECONDS} s")
