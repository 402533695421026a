"""`manage.py gateway`: keep Caddy at the routes and count its access log, until told to stop."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from nodes.gateway.access_log import Tail
from nodes.gateway.pace import Pace
from nodes.gateway.syncer import Syncer


class Command(BaseCommand):
    help = "Keeps Caddy (GATEWAY_ADMIN_URL) at the routes in Redis and counts its access log. Ends on SIGTERM."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        pace = Pace()
        threads = [
            threading.Thread(target=_or_stop(work.run, stop), name=type(work).__name__)
            for work in (Syncer(stop, pace), Tail(stop, pace))
        ]
        for thread in threads:
            thread.start()
        self.stdout.write("The gateway's syncer runs.")
        self.stdout.flush()
        for thread in threads:
            thread.join()


def _or_stop(work: Any, stop: threading.Event) -> Any:
    """A thread that dies must not leave the other running alone: the process ends and its supervisor starts it again."""

    def guarded() -> None:
        try:
            work()
        finally:
            stop.set()

    return guarded
