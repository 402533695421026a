from django.apps import AppConfig


class NodesConfig(AppConfig):
    name = "nodes"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from nodes import (
            checks,  # noqa: F401  (registers the system checks)
            receivers,  # noqa: F401
        )
