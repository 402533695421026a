"""Apps, releases, deployments, price lists and charging."""

from django.apps import AppConfig


class MarketplaceConfig(AppConfig):
    name = "marketplace"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from marketplace import receivers  # noqa: F401  (connects the signals)
