"""The web process: the device link (Starlette) under /link/, Django for everything else.

The link is not a Django view because Django keeps an OS thread per waiting request and a device waits all day.
"""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "interchain_site.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from starlette.applications import Starlette  # noqa: E402  (after Django is set up)
from starlette.routing import BaseRoute, Mount  # noqa: E402

from nodes import link  # noqa: E402
from nodes.body_limit import BodyLimit  # noqa: E402

django_limited = BodyLimit(django_application)  # type: ignore[arg-type]  # Django types ASGI more narrowly
routes: list[BaseRoute] = [*link.routes, Mount("/", app=django_limited)]
application = Starlette(routes=routes, lifespan=link.lifespan)
