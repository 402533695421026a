"""Cashing out through Stripe Connect, Stripe's own books, and the codes that confirm a payout."""

from __future__ import annotations

import uuid
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
            name="StripeMovement",
            fields=[
                ("id", models.CharField(max_length=120, primary_key=True, serialize=False)),
                (
                    "kind",
                    models.CharField(
                        help_text="Stripe's type: charge, refund, adjustment, transfer, payout, …", max_length=60
                    ),
                ),
                ("cents", models.BigIntegerField()),
                ("fee_cents", models.BigIntegerField(default=0)),
                ("source", models.CharField(blank=True, help_text="Stripe's id of what caused it.", max_length=120)),
                ("text", models.CharField(blank=True, max_length=200)),
                ("created_at", models.DateTimeField(db_index=True, help_text="By Stripe's clock.")),
                ("seen_at", models.DateTimeField()),
                (
                    "followed_at",
                    models.DateTimeField(
                        db_index=True, help_text="When our rows were brought in line with it.", null=True
                    ),
                ),
                ("error", models.CharField(blank=True, max_length=300)),
            ],
            options={
                "ordering": ("-created_at", "-id"),
            },
        ),
        migrations.AddField(
            model_name="stripeevent",
            name="account",
            field=models.CharField(blank=True, help_text="Stripe's connected account; empty: our own.", max_length=120),
        ),
        migrations.CreateModel(
            name="ConnectAccount",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                (
                    "stripe_id",
                    models.CharField(help_text="Empty until Stripe answered.", max_length=120, null=True, unique=True),
                ),
                ("country", models.CharField(max_length=2)),
                (
                    "currency",
                    models.CharField(blank=True, help_text="Of the bank account, as Stripe says.", max_length=3),
                ),
                ("bank", models.CharField(blank=True, help_text="Name and last four digits.", max_length=120)),
                (
                    "submitted",
                    models.BooleanField(default=False, help_text="The person has answered Stripe's questions."),
                ),
                (
                    "payable",
                    models.BooleanField(
                        default=False, help_text="Stripe lets us send dollars to it and on to its bank."
                    ),
                ),
                (
                    "bank_failed",
                    models.BooleanField(default=False, help_text="The last payout to this bank came back."),
                ),
                ("wanted", models.JSONField(default=list, help_text="What Stripe still wants, by Stripe's names.")),
                ("pending", models.BooleanField(default=False, help_text="Stripe is checking.")),
                ("disabled_reason", models.CharField(blank=True, max_length=80)),
                (
                    "problem",
                    models.CharField(
                        blank=True, help_text="What Stripe could not verify, in its words.", max_length=300
                    ),
                ),
                ("created_at", models.DateTimeField()),
                ("checked_at", models.DateTimeField(help_text="When Stripe was last asked about it.", null=True)),
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="connect_account",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="CashOutRules",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "paused",
                    models.BooleanField(default=False, help_text="Nobody can cash out; what is on its way goes on."),
                ),
                ("least_cents", models.PositiveBigIntegerField(verbose_name="least, US cents")),
                ("daily_cents", models.PositiveBigIntegerField(verbose_name="most per person in 24 hours, US cents")),
                (
                    "reserve_cents",
                    models.PositiveBigIntegerField(default=0, verbose_name="kept at Stripe for refunds, US cents"),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "set_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "cash-out rules",
                "ordering": ("-id",),
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("daily_cents__gte", models.F("least_cents")), ("least_cents__gte", 1)),
                        name="billing_cash_out_rules_in_order",
                    )
                ],
            },
        ),
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
        migrations.CreateModel(
            name="CashOut",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("rate", models.DecimalField(decimal_places=9, max_digits=15)),
                ("units", models.BigIntegerField(help_text="Base units of NTC sold.")),
                ("cents", models.BigIntegerField(help_text="US cents paid for them.")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("asked", "Waiting for your code"),
                            ("confirmed", "Confirmed"),
                            ("reserved", "Being sent"),
                            ("transferred", "At Stripe"),
                            ("on_the_way", "On the way to your bank"),
                            ("paid", "Paid"),
                            ("returning", "Coming back"),
                            ("failed", "Failed, NTC given back"),
                            ("refused", "Not possible"),
                            ("cancelled", "Cancelled"),
                            ("expired", "Not confirmed in time"),
                        ],
                        default="asked",
                        max_length=12,
                    ),
                ),
                (
                    "bank",
                    models.CharField(blank=True, help_text="Where it goes, as it was when asked for.", max_length=120),
                ),
                ("reason", models.CharField(blank=True, help_text="Why it waits, or why it failed.", max_length=300)),
                (
                    "failure_code",
                    models.CharField(blank=True, help_text="Stripe's name for what the bank said.", max_length=60),
                ),
                ("created_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField(help_text="The price is locked until then.")),
                ("reserved_at", models.DateTimeField(null=True)),
                ("transferred_at", models.DateTimeField(null=True)),
                ("paid_at", models.DateTimeField(null=True)),
                (
                    "dollars_back_at",
                    models.DateTimeField(
                        help_text="When the dollars of a failed one were the desk's again.", null=True
                    ),
                ),
                (
                    "closed_at",
                    models.DateTimeField(
                        help_text="When nothing more could happen, except a bank's late return.", null=True
                    ),
                ),
                ("arrives_on", models.DateField(null=True)),
                ("transfer_id", models.CharField(max_length=120, null=True, unique=True)),
                ("payout_id", models.CharField(max_length=120, null=True, unique=True)),
                (
                    "tries",
                    models.PositiveIntegerField(
                        default=0, help_text="Refusals by Stripe; each gives the next try a new key."
                    ),
                ),
                ("checked_at", models.DateTimeField(help_text="When the current step was last tried.", null=True)),
                (
                    "claimed_until",
                    models.DateTimeField(
                        help_text="One worker is at it; longer than any call to Stripe takes.", null=True
                    ),
                ),
                (
                    "in_doubt",
                    models.BooleanField(
                        default=False, help_text="Stripe was asked to move dollars; its answer is not known."
                    ),
                ),
                (
                    "told",
                    models.CharField(
                        blank=True, help_text="The last state the person was e-mailed about.", max_length=12
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="cash_outs",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="cash_outs",
                        to="billing.connectaccount",
                    ),
                ),
            ],
            options={
                "ordering": ("-created_at",),
                "indexes": [
                    models.Index(fields=["user", "-created_at"], name="billing_cash_out_of_user"),
                    models.Index(fields=["state", "checked_at"], name="billing_cash_out_waiting"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("cents__gt", 0), ("units__gt", 0)), name="billing_cash_out_above_zero"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state__in", ["transferred", "on_the_way", "paid"]), _negated=True),
                            ("transfer_id__isnull", False),
                            _connector="OR",
                        ),
                        name="billing_cash_out_has_transfer",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state__in", ["on_the_way", "paid"]), _negated=True),
                            ("payout_id__isnull", False),
                            _connector="OR",
                        ),
                        name="billing_cash_out_has_payout",
                    ),
                ],
            },
        ),
        # The desk may buy back more than it sold, with dollars the company added.
        migrations.RunSQL(
            "UPDATE billing_account SET may_be_negative = true WHERE kind = 'desk_sales_usd' AND user_id IS NULL",
            migrations.RunSQL.noop,
        ),
    ]
