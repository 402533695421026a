"""Spare slots: places in a loaded configuration for names that came after it, so that a new name is no new configuration,
which would cost other apps' clients requests (docs/adr/0741).

A host that Caddy's shelves (apps.py) do not have, or have no more, is looked up in a folder of its own: the name of the one
file there says which slot serves it. What the slot serves stands in files too, as with all apps (board.py). A slot of the
first kind has one upstream; one of the second a succession, whose failures Caddy remembers. Slots are not given to another
app as long as their configuration lasts, for a request may still wait in one.

    spare-<generation>/hosts/<host>/<slot>     which slot
    spare-<generation>/superseded/<host>       this host is looked up here though a shelf has it
    spare-<generation>/<slot>.<n>              its upstreams
    spare-<generation>/<slot>.id               its workload
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from nodes.gateway import apps, board, pages
from nodes.gateway.apps import Route
from nodes.gateway.board import MOST_SLOTS, Board

NAMED_ROUTE = "spare"
SHELVES, SHELF_SLOTS = 8, 128  # Caddy reads a map's lines one after the other
SUCCESSIONS = 128  # each costs a third of a millisecond when the configuration is loaded

SAFE_HOST = "^[a-z0-9][a-z0-9.-]{0,252}$"
"""What a client wrote becomes part of a path: one folder's name, never a pattern or a way out."""
_SHELF, _SLOT = "{spare_shelf}", "{spare_slot}"
# Of two files the first by name counts, and an app may go from a single slot (s) to a succession (m), never back.
_SUCCESSION = "m"


def invoke() -> dict[str, Any]:
    """Return the handler that answers for a host no shelf has: an app in a spare slot, or the page that says unknown."""
    return {"handler": "invoke", "name": NAMED_ROUTE}


def is_superseded(generation: str) -> dict[str, Any]:
    """Return what matches hosts that a shelf has and that are served here all the same, or nowhere any more."""
    return {"file": {"root": f"{_folder(generation)}/superseded", "try_files": ["{http.request.host}"]}}


def named_route(generation: str) -> dict[str, Any]:
    """Return the route that `invoke` calls, with every spare slot of this generation of the configuration."""
    of_host = {"file": {"root": f"{_folder(generation)}/hosts", "try_files": ["{http.request.host}/*"]}}
    taken_apart = {
        "handler": "map",
        "source": "{http.matchers.file.relative}",
        "destinations": [_SHELF, _SLOT],
        "mappings": [{"input_regexp": r"/([a-z][0-9]*)\.([0-9]+)$", "outputs": ["${1}", "${2}"]}],
    }
    kept = {"handler": "vars", "spare_shelf": _SHELF, "spare_slot": _SLOT}
    slots = [*(_shelf(generation, number) for number in range(SHELVES)), _successions(generation)]
    found = {"match": [of_host], "handle": [taken_apart, kept, _subroute(slots)], "terminal": True}
    safe = {
        "match": [{"vars_regexp": {"{http.request.host}": {"pattern": SAFE_HOST}}}],
        "handle": [_subroute([found])],
    }
    return {"handle": [_subroute([safe, {"handle": [pages.page(pages.UNKNOWN)]}])]}


def _shelf(generation: str, number: int) -> dict[str, Any]:
    lines = []
    for slot in range(SHELF_SLOTS):
        place = f"{_folder(generation)}/s{number}.{slot}"
        line = apps.line_of(f"{{file.{place}.id}}")
        lines.append({"input": str(slot), "outputs": [line, f"{{file.{place}.0}}"]})
    return _route({"spare_shelf": [f"s{number}"]}, apps.from_map("{http.vars.spare_slot}", lines))


def _successions(generation: str) -> dict[str, Any]:
    routes = []
    for slot in range(SUCCESSIONS):
        place = f"{_folder(generation)}/{_SUCCESSION}.{slot}"
        upstreams = [f"{{file.{place}.{number}}}" for number in range(MOST_SLOTS)]
        handle = apps.by_itself(f"{{file.{place}.id}}", upstreams, settings.GATEWAY_MAX_BODY_BYTES)
        routes.append(_route({"spare_slot": [str(slot)]}, handle))
    return _route({"spare_shelf": [_SUCCESSION]}, [_subroute(routes)])


def _route(values: Mapping[str, list[str]], handle: list[dict[str, Any]]) -> dict[str, Any]:
    return {"match": [{"vars": values}], "handle": handle, "terminal": True}


def _subroute(routes: list[dict[str, Any]]) -> dict[str, Any]:
    return {"handler": "subroute", "routes": routes}


def _folder(generation: str) -> str:
    return f"{board.folder()}/{folder_of(generation)}"


def folder_of(generation: str) -> str:
    """Return the folder of this generation's slots, on the board."""
    return f"spare-{generation}"


@dataclass(frozen=True)
class Served:
    """What a configuration says of a host."""

    name: str
    workload_id: str
    max_body_bytes: int
    upstreams: int  # how many there may be at once


def table(routes: Mapping[str, Route], slots: Mapping[str, int]) -> dict[str, Served]:
    """Return what a configuration made of these routes says of every host."""
    return {
        host: Served(name, route.get("workload_id", ""), route.get("max_body_bytes") or 0, slots.get(name, 1))
        for name, route in routes.items()
        for host in apps.hosts(route)
    }


@dataclass
class Spares:
    """Which names are in the spare slots of one loaded configuration. `shelved` is what its shelves have."""

    generation: str
    shelved: Mapping[str, Served]
    superseded: set[str] = field(default_factory=set)
    _gone: bool = False  # a shelf has an app that is no more
    _placed: dict[str, Served] = field(default_factory=dict)  # by host
    _slots: dict[tuple[str, bool], str] = field(default_factory=dict)  # by name and whether it is a succession
    _workloads: dict[str, str] = field(default_factory=dict)  # by name
    _used: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})

    @property
    def in_use(self) -> bool:
        """Whether anything differs from what the shelves have."""
        return bool(self.superseded or self._placed or self._gone)

    def admit(self, wanted: Mapping[str, Served]) -> bool:
        """Give a slot to each name that needs one and can have one. False when only a new configuration serves the others:
        no slot is left, or a host is another app's than before, or staff set a limit. Nothing is written yet."""
        fits = [self._admit(host, served) for host, served in wanted.items()]
        return all(fits)

    def write(self, onto: Board, wanted: Mapping[str, Served], routes: Mapping[str, Route]) -> None:
        """Show on the board what `admit` took: first what slots serve, then who is in which."""
        for (name, several), slot in self._slots.items():
            onto.write(f"{folder_of(self.generation)}/{slot}.id", self._workloads[name])
            for number, address in enumerate(board.upstreams_of(routes.get(name), MOST_SLOTS if several else 1)):
                onto.write(f"{folder_of(self.generation)}/{slot}.{number}", address)
        for host in list(self._placed):
            self._write_host(onto, host, wanted)
        left = self.shelved.keys() - wanted.keys()
        # An app that is gone shows so by its own files (board.py): only a host that a living app lost is marked.
        lost = {host for host in left if self.shelved[host].name in routes}
        self._gone = len(left) > len(lost)
        now = {host for host in self._placed if host in self.shelved} | lost
        for host in now ^ self.superseded:
            path = f"{folder_of(self.generation)}/superseded/{host}"
            onto.write(path, "") if host in now else onto.remove(path)
        self.superseded = now

    def _admit(self, host: str, served: Served) -> bool:
        before = self.shelved.get(host)
        if before and before.upstreams >= served.upstreams:
            return not _differ(before, served)
        return not (before and _differ(before, served)) and self._place(host, served)

    def _place(self, host: str, served: Served) -> bool:
        before = self._placed.get(host)
        if served.max_body_bytes or (before and _differ(before, served)):
            return False
        if self._workloads.setdefault(served.name, served.workload_id) != served.workload_id:
            return False
        several = served.upstreams > 1
        if (served.name, several) not in self._slots:
            number = self._used[several]
            if number >= (SUCCESSIONS if several else SHELVES * SHELF_SLOTS):
                return False
            self._used[several] += 1
            shelf = _SUCCESSION if several else f"s{number // SHELF_SLOTS}"
            self._slots[served.name, several] = f"{shelf}.{number if several else number % SHELF_SLOTS}"
        self._placed[host] = served
        return True

    def _write_host(self, onto: Board, host: str, wanted: Mapping[str, Served]) -> None:
        served = self._placed[host]
        paths = {
            several: f"{folder_of(self.generation)}/hosts/{host}/{slot}"
            for several in (True, False)
            if (slot := self._slots.get((served.name, several)))
        }
        if host in wanted:
            onto.write(paths[served.upstreams > 1], "")
            return
        for path in paths.values():
            onto.remove(path)
        del self._placed[host]


def _differ(before: Served, served: Served) -> bool:
    """Whether two hosts cannot be served by one route with more upstreams."""
    return (before.name, before.workload_id, before.max_body_bytes) != (
        served.name,
        served.workload_id,
        served.max_body_bytes,
    )
