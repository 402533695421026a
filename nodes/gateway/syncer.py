"""Keeps one Caddy at the routes that Redis has. Either may go away and come back; what is known is kept meanwhile, on disk
too, so that a gateway that starts while Redis is away serves what it served before."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from redis import RedisError
from redis.client import PubSub

from interchain_site.core import redis
from nodes.gateway import apps, board, config, pages, spares
from nodes.gateway.board import Board
from nodes.gateway.caddy import Caddy, CaddyRefused, CaddyUnreachable
from nodes.gateway.guard import Guard, Routes
from nodes.gateway.pace import Key, Pace
from nodes.gateway.spares import Spares
from nodes.services.routes import ALL, CHANGED_CHANNEL, COMPLETE_KEY, CONFIRMED_KEY, GUARD_KEY, OPTIONS_KEY, ROUTES_KEY

TEND_SECONDS = 1.0
REFRESH_SECONDS = 10.0
AGAIN_AFTER_SECONDS = 0.5
CLOSING_SECONDS = 0.15
QUIET_SECONDS = 5.0
LISTEN_SECONDS = 0.25  # how late a client that asks too much is refused, beside what reading the log takes

log = structlog.get_logger()


class Syncer:
    """Call `run` in a thread; it ends soon after `stop` is set."""

    def __init__(self, stop: threading.Event, pace: Pace | None = None) -> None:
        self._stop, self._pace = stop, pace or Pace()
        self._caddy = Caddy()
        self._kept = settings.GATEWAY_ACCESS_LOG.with_name("routes.json")
        self._guard = Guard()
        self._confirmed_at = 0.0
        self._routes: Routes = _read(self._kept)
        self._served: Routes = self._routes
        self._board = Board()
        self._slots: dict[str, int] = {}
        self._applied: Routes | None = None
        self._refused: frozenset[Key] = frozenset()
        self._config: dict[str, Any] = {}  # the one that Caddy took last
        self._behind = False  # it lacks something that must not wait
        self._spares = Spares("", {})
        self._tended_at = self._admitted_at = 0.0

    def run(self) -> None:
        if self._routes:
            self._apply()
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
            message = pubsub.get_message(timeout=LISTEN_SECONDS)
            # What arrived together is applied together: one new configuration, however many names changed.
            while message is not None:
                self._take(str(message["data"]))
                message = pubsub.get_message(timeout=0)
            self._apply()

    def _refresh(self) -> None:
        client = redis.connection()
        options = client.hgetall(OPTIONS_KEY)
        found = {str(name): _whole(text, options.get(name)) for name, text in client.hgetall(ROUTES_KEY).items()}
        # Without the mark Redis has lost data and the portal has not written it again yet.
        complete = client.exists(COMPLETE_KEY)
        self._routes = found if complete else self._routes | found
        self._confirmed_at = float(client.get(CONFIRMED_KEY) or 0)
        self._tell_guard()

    def _take(self, name: str) -> None:
        if name == ALL:
            self._refresh()
            return
        text, options = redis.connection().hget(ROUTES_KEY, name), redis.connection().hget(OPTIONS_KEY, name)
        routes = {known: route for known, route in self._routes.items() if known != name}
        self._routes = routes if text is None else routes | {name: _whole(text, options)}

    def _apply(self) -> None:
        held_long = bool(self._guard.held) and time.monotonic() - self._admitted_at > TEND_SECONDS
        if self._applied != self._routes or held_long:
            self._applied, self._admitted_at = self._routes, time.monotonic()
            self._served = self._guard.admit(self._routes, confirmed_at=self._confirmed_at)
            self._pace.limit(self._served)
            self._serve()
        refused = self._pace.refused()
        if refused != self._refused:
            self._refuse(refused)
        self._tend()

    def _serve(self) -> None:
        """Show where apps are, new ones in spare slots; a new configuration only when those do not do."""
        for name, route in self._served.items():
            wanted = min(len(route["upstreams"]), board.MOST_SLOTS)
            self._slots[name] = max(self._slots.get(name, 1), wanted)
        self._board.show(self._served, self._slots)
        self._board.dates(_dates(self._served))
        self._behind = not (self._config and self._spare())
        if self._behind:
            self._load(gently=bool(self._config))
        _write(self._kept, self._served)

    def _spare(self) -> bool:
        """Serve from spare slots what Caddy's configuration has not; False when that is not enough."""
        hosts = spares.table(self._served, self._slots)
        fits = self._spares.admit(hosts)
        self._spares.write(self._board, hosts, self._served)
        self._say_unusual()
        return fits

    def _refuse(self, refused: frozenset[Key]) -> None:
        hosts = {route.get("workload_id", ""): apps.hosts(route) for route in self._served.values()}
        for workload_id, client in refused ^ self._refused:
            for host in hosts.get(workload_id, ()):
                path = f"{board.REFUSING}/{host}/{client}"
                self._board.write(path, "") if (workload_id, client) in refused else self._board.remove(path)
        self._refused = refused
        self._say_unusual()

    def _tend(self) -> None:
        """Every now and then see that Caddy has its configuration: it may have started again with nothing. When nobody has
        asked for a while, what is in spare slots becomes part of it."""
        if self._applied is None or time.monotonic() - self._tended_at < TEND_SECONDS:
            return
        self._tended_at = time.monotonic()
        try:
            if self._behind or not self._caddy.has(config.id_of(self._config)):
                self._load()
            elif self._spares.in_use and self._is_quiet():
                self._load(gently=True)
        except CaddyUnreachable as error:
            log.warning("gateway_lost_caddy", error=str(error))

    def _is_quiet(self) -> bool:
        """Return whether nothing changed, and no request ended, for QUIET_SECONDS."""
        if time.monotonic() - self._admitted_at < QUIET_SECONDS:
            return False
        try:
            return time.time() - settings.GATEWAY_ACCESS_LOG.stat().st_mtime > QUIET_SECONDS
        except OSError:
            return True

    def _load(self, *, gently: bool = False) -> None:
        """Give Caddy a configuration of all names. Gently: open connections end with their next answer beforehand, because
        Caddy closes those that wait for a request, and one just under way on such a connection would be lost."""
        wanted = config.build(self._served, self._slots)
        if config.generation_of(wanted) != self._spares.generation:
            self._board.clear(spares.folder_of(config.generation_of(wanted)))
        try:
            if gently:
                self._say_unusual(closing=True)
                self._stop.wait(CLOSING_SECONDS)
            self._caddy.load(wanted)
            self._took(wanted)
        except CaddyUnreachable as error:
            log.warning("gateway_lost_caddy", error=str(error))
        except CaddyRefused as error:
            log.error("gateway_config_refused", error=str(error))
        finally:
            self._say_unusual()

    def _took(self, taken: dict[str, Any]) -> None:
        """Start again with empty spare slots. Those of the last configuration stay for the requests that wait in it."""
        self._behind, self._config = False, taken
        before, generation = self._spares.generation, config.generation_of(taken)
        if generation != before:
            self._spares = Spares(generation, spares.table(self._served, self._slots))
        self._board.sweep(self._served, [spares.folder_of(before), spares.folder_of(generation)])

    def _say_unusual(self, *, closing: bool = False) -> None:
        said = {board.CLOSING: closing, board.REFUSING: self._refused, board.SUPERSEDED: self._spares.superseded}
        self._board.unusual([mark for mark, is_so in said.items() if is_so])

    def _tell_guard(self) -> None:
        """Say in Redis what is held against the table, for the portal to tell staff (services/gateways.py)."""
        me = f"{socket.gethostname()} {settings.GATEWAY_ADMIN_URL}"
        if self._guard.held:
            facts = {"held": len(self._guard.held), "since": self._guard.since, "at": time.time()}
            redis.connection().hset(GUARD_KEY, me, json.dumps(facts))
        else:
            redis.connection().hdel(GUARD_KEY, me)


def _whole(text: str | bytes, options: str | bytes | None) -> dict[str, Any]:
    """Return a route with what its name has beside its place. A stopped app with a date is in grace."""
    route: dict[str, Any] = json.loads(text) | json.loads(options or "{}")
    if route["status"] == "stopped" and route.get("grace_ends_at"):
        route["status"] = "grace"
    return route


def _dates(routes: Routes) -> dict[str, str]:
    """Return until when the data of stopped apps is kept, by host, as a page shows it."""
    return {
        host: pages.date(route["grace_ends_at"])
        for route in routes.values()
        if route.get("grace_ends_at")
        for host in apps.hosts(route)
    }


def _read(path: Path) -> Routes:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


def _write(path: Path, routes: Routes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(routes))
        partial.replace(path)
    except OSError as error:
        log.warning("routes_not_kept", error=str(error))
