from django.apps import AppConfig


class LocalConfig(AppConfig):
    """Only brings `manage.py seed_demo`; it has no tables and no pages."""

    name = "interchain_site.local"
    label = "local"
    verbose_name = "This machine"
