"""Caddy's access log, line by line: what one says of a visit, without anything that only one of its readers needs."""

from __future__ import annotations

import json
from typing import NamedTuple

from nodes.gateway.apps import LOG_FIELD
from nodes.gateway.config import FAULT_FIELD

OUR_PAGE = "/"  # what answered was one of Caddy's own sockets (pages.py)


class Visit(NamedTuple):
    """One request to an app."""

    at: float  # seconds of 1970
    workload_id: str
    client: str  # an address
    reached: str  # the upstream that answered, or was tried last
    first: str  # who is first in a succession of several
    status: int
    bytes: int  # read and written
    fault: str  # why the app did not answer, "" when it did

    @property
    def reached_the_app(self) -> bool:
        return not self.fault and not self.reached.startswith(OUR_PAGE)


def parsed(line: bytes) -> Visit | None:
    """Return what a line says, None when it is not about an app or is no line of the log at all."""
    try:
        entry = json.loads(line)
        workload_id, client, reached, first = entry[LOG_FIELD].split(" ")
        return Visit(
            float(entry["ts"]),
            workload_id,
            client,
            reached,
            first,
            int(entry.get("status", 0)),
            int(entry.get("bytes_read", 0)) + int(entry.get("size", 0)),
            str(entry.get(FAULT_FIELD, "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
