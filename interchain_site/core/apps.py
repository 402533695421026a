from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "interchain_site.core"
    label = "core"
    verbose_name = "Accounts and audit"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from interchain_site.core import checks  # noqa: F401  (registers the system checks)
