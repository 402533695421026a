"""The database holds the ledger's rules and, on PostgreSQL, its `post()`: see `billing/triggers.py`, `billing/post_function.py`."""

from django.db import migrations

from billing import post_function, triggers


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]
    operations = [
        migrations.RunPython(triggers.install, triggers.remove),
        migrations.RunPython(post_function.install, post_function.remove),
    ]
