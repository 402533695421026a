"""The web process: the device link and the calls devices make most (Starlette), Django for everything else.

The link is not a Django view because Django keeps an OS thread per waiting request and a device waits all day.
"""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "interchain_site.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from collections.abc import AsyncIterator  # noqa: E402
from contextlib import asynccontextmanager  # noqa: E402

from starlette.applications import Starlette  # noqa: E402  (after Django is set up)
from starlette.routing import BaseRoute, Mount  # noqa: E402

from interchain_site import garbage  # noqa: E402
from nodes import frequent_calls, link  # noqa: E402
from nodes.body_limit import BodyLimit  # noqa: E402

django_limited = BodyLimit(django_application)  # type: ignore[arg-type]  # Django types ASGI more narrowly
routes: list[BaseRoute] = [*link.routes, *frequent_calls.routes, Mount("/", app=django_limited)]


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """What devices need runs as long as the process serves."""
    async with link.lifespan(app), frequent_calls.lifespan(app), garbage.searched_seldom():
        yield


application = Starlette(routes=routes, lifespan=lifespan)
