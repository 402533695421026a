"""What may change at any moment, as small files that Caddy looks at while it serves (its `{file.…}` placeholders): where each
app is served, and who is refused now. Beside the access log, a place that Caddy and the syncer share already. An app that
is not live is "served" by the page that says so (pages.py). One such file costs a request about ten microseconds."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from nodes.gateway import pages

MOST_SLOTS = 8
UNUSUAL = "unusual"  # this file is there while something is not as usual; it says what
CLOSING, REFUSING = "closing", "refusing"


def folder() -> Path:
    return Path(settings.GATEWAY_ACCESS_LOG).absolute().with_name("board")


def slot_of(name: str, number: int) -> str:
    """Return the placeholder of an upstream's place in the succession, from 0."""
    return f"{{file.{folder()}/apps/{name}.{number}}}"


def unusual() -> str:
    """Return the placeholder of what is not as usual."""
    return f"{{file.{folder()}/{UNUSUAL}}}"


class Board:
    """Writes only what changed. Whoever holds it is the only one who writes."""

    def __init__(self) -> None:
        self._written: dict[str, str] = {}
        shutil.rmtree(folder(), ignore_errors=True)

    def show(self, routes: Mapping[str, Mapping[str, Any]], slots: Mapping[str, int]) -> None:
        """Write where every app is served. Upstreams are repeated until each of its slots has one.

        Raises:
            OSError: the disk does not take it.
        """
        for name, route in routes.items():
            live = route["status"] == "live"
            upstreams = route["upstreams"][:MOST_SLOTS] if live else [pages.address(route["status"])]
            for number in range(slots.get(name, 1)):
                self.write(f"apps/{name}.{number}", upstreams[number % len(upstreams)])

    def unusual(self, what: str) -> None:
        """Say what is not as usual; empty for nothing."""
        if what:
            self.write(UNUSUAL, what)
        else:
            self.remove(UNUSUAL)

    def forget(self, routes: Mapping[str, Any]) -> None:
        """Remove the files of names that are in no route any more; after Caddy forgot them too."""
        for path in [path for path in self._written if path.startswith("apps/")]:
            if path[5:].rpartition(".")[0] not in routes:
                self.remove(path)

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
