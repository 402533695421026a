"""`manage.py tunnel`: let devices behind NAT be reached, until told to stop."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from django.core.management.base import BaseCommand

from nodes.gateway import tunnel_server


class Command(BaseCommand):
    help = "Serves tunnels of devices that cannot be reached from outside (TUNNEL_LISTEN). Ends on SIGTERM."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await tunnel_server.serve(stop)
