from __future__ import annotations

import sys

from django.apps import AppConfig

RECURSION_LIMIT = 1000


class CoreConfig(AppConfig):
    name = "interchain_site.core"
    label = "core"
    verbose_name = "Accounts and audit"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from interchain_site.core import checks  # noqa: F401  (registers the system checks)

        _keep_recursion_bounded()


def _keep_recursion_bounded() -> None:
    """web3 brings py_ecc, which raises the recursion limit to 100,000 when first imported. With that, a request body of
    100,000 brackets overflows the C stack and kills the process; so it is imported now and Python's own limit put back."""
    import py_ecc  # noqa: F401

    sys.setrecursionlimit(RECURSION_LIMIT)
