"""The database holds the ledger's rules: see `billing/triggers.py`."""

from django.db import migrations

from billing import triggers


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]
    operations = [migrations.RunPython(triggers.install, triggers.remove)]
