"""What may change at any moment, as small files that Caddy looks at while it serves (its `{file.…}` placeholders): where each
app is served, and who is refused now. Beside the access log, a place that Caddy and the syncer share already. An app that
is not live is "served" by the page that says so (pages.py). One such file costs a request about ten microseconds."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any

from django.conf import settings

from nodes.gateway import pages

MOST_SLOTS = 8
UNUSUAL = "unusual"  # this file is there while something is not as usual; it says what
CLOSING, REFUSING, SUPERSEDED = MARKS = ("closing", "refusing", "superseded")
DATES = "dates"  # a folder for each host of a stopped app; its file's name is the date


def folder() -> Path:
    return Path(settings.GATEWAY_ACCESS_LOG).absolute().with_name("board")


def slot_of(name: str, number: int) -> str:
    """Return the placeholder of an upstream's place in the succession, from 0."""
    return f"{{file.{folder()}/apps/{name}.{number}}}"


def unusual() -> str:
    """Return the placeholder of what is not as usual."""
    return f"{{file.{folder()}/{UNUSUAL}}}"


def saying(mark: str) -> list[str]:
    """Return everything that `unusual` may say with this mark in it."""
    every = (some for count in range(1, len(MARKS) + 1) for some in combinations(MARKS, count))
    return [" ".join(some) for some in every if mark in some]


def upstreams_of(route: Mapping[str, Any] | None, count: int) -> list[str]:
    """Return so many addresses where this app is served, the first of its succession first; a page of ours when it is not live."""
    if route is None or route["status"] != "live":
        return [pages.address(route["status"] if route else pages.UNKNOWN)] * count
    upstreams = route["upstreams"][:MOST_SLOTS]
    return [upstreams[number % len(upstreams)] for number in range(count)]


class Board:
    """Writes only what changed. Whoever holds it is the only one who writes."""

    def __init__(self) -> None:
        self._written: dict[str, str] = {}
        self._dates: dict[str, str] = {}
        # All else a Caddy may be serving by, until `sweep`.
        shutil.rmtree(folder() / REFUSING, ignore_errors=True)

    def show(self, routes: Mapping[str, Mapping[str, Any]], slots: Mapping[str, int]) -> None:
        """Write where every app is served. Upstreams are repeated until each of its slots has one.

        Raises:
            OSError: the disk does not take it.
        """
        for name, route in routes.items():
            for number, address in enumerate(upstreams_of(route, slots.get(name, 1))):
                self.write(f"apps/{name}.{number}", address)
        for path in self._apps_written():
            if _name_of(path) not in routes:  # somebody may be waiting there
                self.write(path, pages.address(pages.UNKNOWN))

    def dates(self, wanted: Mapping[str, str]) -> None:
        """Let the page of a stopped app say until when its data is kept, for each host that has such a date."""
        for host, text in wanted.items():
            self.write(f"{DATES}/{host}/{text}", "")
        for host, text in self._dates.items():
            if wanted.get(host) != text:
                self.remove(f"{DATES}/{host}/{text}")
        self._dates = dict(wanted)

    def unusual(self, marks: Collection[str]) -> None:
        """Say which of MARKS are so now."""
        if marks:
            self.write(UNUSUAL, " ".join(mark for mark in MARKS if mark in marks))
        else:
            self.remove(UNUSUAL)

    def sweep(self, routes: Mapping[str, Any], kept: Collection[str]) -> None:
        """Remove what no configuration reads any more, after Caddy took one.

        Args:
            kept: folders that stay.
        """
        for path in self._apps_written():
            if _name_of(path) not in routes:
                self.remove(path)
        for top in folder().glob("spare-*"):
            if top.name not in kept:
                self.clear(top.name)
        tops = (folder() / "apps", folder() / DATES)
        for file in [file for top in tops for file in top.glob("**/*") if file.is_file()]:
            if str(file.relative_to(folder())) not in self._written:
                file.unlink(missing_ok=True)
        for host in (folder() / DATES).glob("*"):
            with suppress(OSError):  # not empty
                host.rmdir()

    def clear(self, top: str) -> None:
        """Remove a whole folder."""
        shutil.rmtree(folder() / top, ignore_errors=True)
        self._written = {path: text for path, text in self._written.items() if not path.startswith(f"{top}/")}

    def _apps_written(self) -> list[str]:
        return [path for path in self._written if path.startswith("apps/")]

    def write(self, path: str, text: str) -> None:
        if self._written.get(path) == text:
            return
        file = folder() / path
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(file.name + ".new")
        partial.write_text(text)
        partial.replace(file)
        self._written[path] = text

    def remove(self, path: str) -> None:
        (folder() / path).unlink(missing_ok=True)
        self._written.pop(path, None)


def _name_of(path: str) -> str:
    """Return the app whose upstream this file has."""
    return path.removeprefix("apps/").rpartition(".")[0]
