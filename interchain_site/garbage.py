"""Python's search for reference cycles, kept short in a process that holds thousands of links.

A full search looks at every object there is, and nothing else runs meanwhile: 0.2 s with 2,000 links, every few seconds
(bench/fleet). What has lived for a while is left out of it (`gc.freeze`), and is searched only now and then.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

LEFT_OUT_SECONDS = 15.0
ALL_SECONDS = 600.0
"""How long a cycle may stay that lived when the others were left out; a closed link can be one."""


@asynccontextmanager
async def searched_seldom() -> AsyncIterator[None]:
    """Leave out of the search what stays, as long as the block lasts."""
    task = asyncio.create_task(_keep())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        gc.unfreeze()


async def _keep() -> None:
    loop = asyncio.get_running_loop()
    while True:
        gc.unfreeze()
        gc.collect()
        searched_at = loop.time()
        while loop.time() - searched_at < ALL_SECONDS:
            gc.freeze()
            await asyncio.sleep(LEFT_OUT_SECONDS)
