"""Keeps one Caddy at the routes that Redis has. Either may go away and come back; what is known is kept meanwhile."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import structlog
from redis import RedisError
from redis.client import PubSub

from interchain_site.core import redis
from nodes.gateway import config
from nodes.gateway.caddy import Caddy, CaddyRefused, CaddyUnreachable
from nodes.services.routes import ALL, CHANGED_CHANNEL, COMPLETE_KEY, ROUTES_KEY

TEND_SECONDS = 1.0
REFRESH_SECONDS = 10.0
AGAIN_AFTER_SECONDS = 0.5

log = structlog.get_logger()


class Syncer:
    """Call `run` in a thread; it ends soon after `stop` is set."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._caddy = Caddy()
        self._routes: dict[str, dict[str, Any]] = {}
        self._config = config.build({})
        self._tended_at = 0.0

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                with PubSub(redis.connection().connection_pool, ignore_subscribe_messages=True) as pubsub:
                    pubsub.subscribe(CHANGED_CHANNEL)
                    self._follow(pubsub)
            except (RedisError, OSError) as error:
                log.warning("gateway_lost_redis", error=str(error))
                self._tend()
                self._stop.wait(AGAIN_AFTER_SECONDS)
        self._caddy.close()

    def _follow(self, pubsub: PubSub) -> None:
        refreshed_at = 0.0
        while not self._stop.is_set():
            if time.monotonic() - refreshed_at > REFRESH_SECONDS:
                self._refresh()
                refreshed_at = time.monotonic()
            message = pubsub.get_message(timeout=TEND_SECONDS)
            # What arrived together is applied together: one new configuration, however many names changed.
            while message is not None:
                self._take(str(message["data"]))
                message = pubsub.get_message(timeout=0)
            self._apply()

    def _refresh(self) -> None:
        found = {str(name): json.loads(text) for name, text in redis.connection().hgetall(ROUTES_KEY).items()}
        # Without the mark Redis has lost data and the portal has not written it again yet.
        complete = redis.connection().exists(COMPLETE_KEY)
        self._routes = found if complete else self._routes | found

    def _take(self, name: str) -> None:
        if name == ALL:
            self._refresh()
            return
        text = redis.connection().hget(ROUTES_KEY, name)
        if text is None:
            self._routes.pop(name, None)
        else:
            self._routes[name] = json.loads(text)

    def _apply(self) -> None:
        wanted = config.build(self._routes)
        if wanted != self._config:
            self._config = wanted
            self._load()
        self._tend()

    def _tend(self) -> None:
        """Every now and then see that Caddy still has it: it may have started again with nothing."""
        if time.monotonic() - self._tended_at < TEND_SECONDS:
            return
        self._tended_at = time.monotonic()
        try:
            if not self._caddy.has(config.id_of(self._config)):
                self._load()
        except CaddyUnreachable as error:
            log.warning("gateway_lost_caddy", error=str(error))

    def _load(self) -> None:
        try:
            self._caddy.load(self._config)
        except CaddyUnreachable as error:
            log.warning("gateway_lost_caddy", error=str(error))
        except CaddyRefused as error:
            log.error("gateway_config_refused", error=str(error))
