"""Notices upstreams that answered until a moment ago and fell silent, while the requests that wait for them are still tried.

The access log has a request only when it ended, and one that finds nobody is tried for two seconds (apps.TRY_SECONDS). An upstream that was asked all the
time and had no answer for half a second is therefore asked for a connection, once for each such silence: an app that merely has nothing to do accepts it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from nodes.gateway.log_lines import Visit

SILENT_SECONDS = 0.5
BUSY_ANSWERS = 4  # so many without such a silence between them: asked all the time
OLD_SECONDS = 3.0  # silent for longer: requests have been given up meanwhile, and told of it themselves
DIAL_SECONDS = 0.7  # as the gateway's own requests (apps.DIAL_TIMEOUT)
THREADS, MOST_WAITING = 8, 64
MOST_REMEMBERED = 10_000

Key = tuple[str, str]
"""Workload id and `host:port`."""


@dataclass
class _Run:
    """Answers of one upstream without a silence between them: how many, and when the last was, in seconds of 1970."""

    answers: int
    last: float


class Silence:
    """Fed with the log's lines and looked at a few times a second, by one thread; asks in threads of its own."""

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        """Args: tell: told workload id and endpoint of an upstream that takes no connection, in another thread."""
        self._tell = tell
        self._runs: dict[Key, _Run] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="silence")
        self._places = threading.BoundedSemaphore(MOST_WAITING)

    def take(self, visits: Iterable[Visit]) -> None:
        """Note who answered."""
        for visit in visits:
            if not visit.reached_the_app or visit.status >= 500 or not visit.reached.rpartition(":")[2].isdigit():
                continue
            run = self._runs.setdefault((visit.workload_id, visit.reached), _Run(0, visit.at))
            run.answers = run.answers + 1 if visit.at - run.last <= SILENT_SECONDS else 1
            run.last = max(run.last, visit.at)

    def look(self) -> None:
        """Ask those that were busy and are silent now."""
        now = time.time()
        for key in [key for key, run in self._runs.items() if now - run.last > SILENT_SECONDS]:
            run = self._runs.pop(key)
            asked = run.answers >= BUSY_ANSWERS and now - run.last < OLD_SECONDS
            if asked and self._places.acquire(blocking=False):
                self._threads.submit(self._ask, *key)
        if len(self._runs) > MOST_REMEMBERED:
            self._runs.clear()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, workload_id: str, endpoint: str) -> None:
        host, _, port = endpoint.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=DIAL_SECONDS).close()
        except (OSError, ValueError):
            self._tell(workload_id, endpoint)
        finally:
            self._places.release()
