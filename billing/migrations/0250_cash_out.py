"""Cashing out through Stripe Connect, and the codes that confirm a payout."""

from __future__ import annotations

from typing import ClassVar

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models
from django.db.migrations.operations.base import Operation


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [
        ("billing", "0240_reserves"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations: ClassVar[list[Operation]] = [
        migrations.CreateModel(
            name="Confirmation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("subject", models.CharField(help_text="kind:id of what is confirmed.", max_length=120, unique=True)),
                (
                    "method",
                    models.CharField(
                        choices=[
                            ("authenticator", "a code from the authenticator app"),
                            ("email", "a code sent by e-mail"),
                        ],
                        max_length=15,
                    ),
                ),
                (
                    "digest",
                    models.CharField(
                        blank=True, help_text="Keyed hash of the code sent; never the code.", max_length=64
                    ),
                ),
                ("asked_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("expires_at", models.DateTimeField()),
                ("mails", models.PositiveIntegerField(default=0)),
                ("tries", models.PositiveIntegerField(default=0, help_text="Wrong codes so far.")),
                ("confirmed_at", models.DateTimeField(null=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["user", "asked_at"], name="billing_confirmation_of_user")],
            },
        ),
    ]
