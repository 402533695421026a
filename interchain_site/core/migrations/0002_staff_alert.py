"""What staff must look at."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("core", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="StaffAlert",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("code", models.CharField(help_text="Short stable name, e.g. gas_money_low.", max_length=60)),
                (
                    "subject",
                    models.CharField(blank=True, help_text="What it is about, e.g. an address.", max_length=120),
                ),
                ("message", models.TextField(help_text="What is wrong.")),
                ("mend", models.TextField(help_text="What to do about it.")),
                ("opened_at", models.DateTimeField()),
                ("seen_at", models.DateTimeField(help_text="When it was last found to be so.")),
                ("mailed_at", models.DateTimeField(help_text="When staff were told by e-mail, once.", null=True)),
                (
                    "cleared_at",
                    models.DateTimeField(help_text="When it was over. Empty: it lasts.", null=True),
                ),
            ],
            options={"ordering": ("-opened_at", "-id")},
        ),
        migrations.AddConstraint(
            model_name="staffalert",
            constraint=models.UniqueConstraint(
                condition=Q(cleared_at=None), fields=("code", "subject"), name="core_staff_alert_one_open"
            ),
        ),
    ]
