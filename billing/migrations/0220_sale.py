"""The token sale: rounds of Table 1, purchases, staff's orders and rules, and what the chain says about the token."""

import uuid

import django.db.models.deletion
import django.db.models.expressions
from django.conf import settings
from django.db import migrations, models

import billing.models.token_sale
from billing.sale_tables import TABLE_1


def load_table_1(apps, schema_editor):
    rounds = apps.get_model("billing", "SaleRound").objects.using(schema_editor.connection.alias)
    for row in TABLE_1:
        rounds.create(number=row.number, target_units=row.target_units, trigger=row.trigger, planned_on=row.planned_on)


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0210_chain_events"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="SaleDeclaration",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("country", models.CharField(blank=True, max_length=2)),
                ("declared_at", models.DateTimeField()),
            ],
            options={
                "ordering": ("-id",),
            },
        ),
        migrations.CreateModel(
            name="SaleOrder",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("open", "Open the round"),
                            ("close", "Close the round"),
                            ("unsold", "Decide about what was not sold"),
                        ],
                        max_length=10,
                    ),
                ),
                ("price_nano_usd", models.BigIntegerField(null=True)),
                ("decision", models.CharField(blank=True, max_length=20)),
                ("reason", models.CharField(blank=True, max_length=300)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("asked", "Ordered"),
                            ("sent", "Sent to Ethereum"),
                            ("done", "Done"),
                            ("failed", "Refused by the contract"),
                        ],
                        default="asked",
                        max_length=10,
                    ),
                ),
                ("error", models.CharField(blank=True, max_length=300)),
                ("ordered_at", models.DateTimeField()),
                ("done_at", models.DateTimeField(null=True)),
            ],
            options={
                "ordering": ("-id",),
            },
        ),
        migrations.CreateModel(
            name="SalePurchase",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                (
                    "asset",
                    models.CharField(
                        choices=[("card", "Card"), ("stablecoin", "Stablecoin"), ("ether", "Ether")], max_length=10
                    ),
                ),
                ("units", models.BigIntegerField(help_text="Base units of NTC.")),
                ("paid", models.CharField(default="0", max_length=78)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("awaiting", "Waiting for your card"),
                            ("sent", "Sent from your wallet"),
                            ("paid", "Paid"),
                            ("allocating", "Being written to Ethereum"),
                            ("delivered", "Delivered"),
                            ("expired", "Not paid in time"),
                            ("refunding", "Being paid back"),
                            ("refunded", "Paid back"),
                            ("failed", "Failed"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "reference",
                    models.CharField(default=billing.models.token_sale.new_reference, max_length=66, unique=True),
                ),
                (
                    "account",
                    models.CharField(
                        blank=True, help_text="The portal account's reference the NTC go to.", max_length=66
                    ),
                ),
                (
                    "wallet",
                    models.CharField(blank=True, help_text="The wallet that paid, or the NTC went to.", max_length=42),
                ),
                ("attempt", models.PositiveIntegerField(default=1)),
                ("transaction_hash", models.CharField(blank=True, db_index=True, max_length=66)),
                (
                    "country",
                    models.CharField(blank=True, help_text="Where the card was issued, as Stripe says.", max_length=2),
                ),
                (
                    "note",
                    models.CharField(blank=True, help_text="Why it failed or is paid back, in words.", max_length=300),
                ),
                ("created_at", models.DateTimeField()),
                ("delivered_at", models.DateTimeField(null=True)),
                ("told_at", models.DateTimeField(help_text="When the buyer was told that it is paid back.", null=True)),
            ],
            options={
                "ordering": ("-created_at",),
            },
        ),
        migrations.CreateModel(
            name="SaleRound",
            fields=[
                ("number", models.PositiveSmallIntegerField(primary_key=True, serialize=False)),
                ("target_units", models.BigIntegerField(help_text="Base units of NTC to sell (whitepaper, Table 1).")),
                (
                    "trigger",
                    models.CharField(help_text="What has to have happened (whitepaper, Table 1).", max_length=80),
                ),
                ("planned_on", models.DateField(help_text="The whitepaper's date. Shown, never enforced.")),
                (
                    "carried_units",
                    models.BigIntegerField(default=0, help_text="Added from the round before by a staff decision."),
                ),
                ("sold_units", models.BigIntegerField(default=0)),
                (
                    "price_nano_usd",
                    models.BigIntegerField(help_text="Nano-dollars per NTC, fixed at the opening.", null=True),
                ),
                ("opened_at", models.DateTimeField(null=True)),
                ("closed_at", models.DateTimeField(null=True)),
                (
                    "unsold_decision",
                    models.CharField(blank=True, help_text="What becomes of what was not sold.", max_length=20),
                ),
                ("unsold_reason", models.CharField(blank=True, max_length=300)),
                (
                    "checked_at",
                    models.DateTimeField(
                        help_text="When the chain worker last compared it with the contract.", null=True
                    ),
                ),
            ],
            options={
                "ordering": ("number",),
            },
        ),
        migrations.CreateModel(
            name="SaleRules",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "quota_units",
                    models.BigIntegerField(
                        blank=True, help_text="The most one person may buy in a round; empty: no quota.", null=True
                    ),
                ),
                ("terms_required", models.BooleanField(default=False)),
                ("country_required", models.BooleanField(default=False)),
                (
                    "refused_countries",
                    models.CharField(
                        blank=True, help_text="Two-letter codes, separated by spaces, e.g. US CN.", max_length=800
                    ),
                ),
                ("paused", models.BooleanField(default=False, verbose_name="card sales paused")),
            ],
            options={
                "verbose_name": "sale rules",
                "verbose_name_plural": "sale rules",
            },
        ),
        migrations.CreateModel(
            name="SaleTerms",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("version", models.CharField(max_length=20, unique=True)),
                ("text", models.TextField()),
                ("published_at", models.DateTimeField()),
            ],
            options={
                "verbose_name_plural": "sale terms",
                "ordering": ("-published_at",),
            },
        ),
        migrations.CreateModel(
            name="TokenFacts",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("values", models.JSONField(default=dict)),
                ("block_number", models.BigIntegerField(default=0)),
                ("checked_at", models.DateTimeField()),
            ],
        ),
        migrations.AddField(
            model_name="saledeclaration",
            name="user",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="sale_declarations",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="saleorder",
            name="ordered_by",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="saleorder",
            name="sending",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="billing.chaintransaction"
            ),
        ),
        migrations.AddField(
            model_name="salepurchase",
            name="event",
            field=models.OneToOneField(
                help_text="The chain's own word.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="sale_purchase",
                to="billing.chainevent",
            ),
        ),
        migrations.AddField(
            model_name="salepurchase",
            name="payment",
            field=models.OneToOneField(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="sale_purchase",
                to="billing.payment",
            ),
        ),
        migrations.AddField(
            model_name="salepurchase",
            name="sending",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="billing.chaintransaction"
            ),
        ),
        migrations.AddField(
            model_name="salepurchase",
            name="user",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="sale_purchases",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddConstraint(
            model_name="saleround",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("carried_units__gte", 0),
                    ("sold_units__gte", 0),
                    ("target_units__gt", 0),
                    (
                        "sold_units__lte",
                        django.db.models.expressions.CombinedExpression(
                            models.F("target_units"), "+", models.F("carried_units")
                        ),
                    ),
                ),
                name="billing_sale_round_within",
            ),
        ),
        migrations.AddConstraint(
            model_name="saleround",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("closed_at", None), ("opened_at", None)),
                    models.Q(("opened_at__isnull", False), ("price_nano_usd__gt", 0)),
                    _connector="OR",
                ),
                name="billing_sale_round_priced_when_open",
            ),
        ),
        migrations.AddField(
            model_name="salepurchase",
            name="sale_round",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="purchases", to="billing.saleround"
            ),
        ),
        migrations.AddField(
            model_name="saleorder",
            name="sale_round",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="orders", to="billing.saleround"
            ),
        ),
        migrations.AddField(
            model_name="quote",
            name="sale_round",
            field=models.ForeignKey(
                help_text="Empty: the desk sells; else this round of the token sale.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="billing.saleround",
            ),
        ),
        migrations.AddConstraint(
            model_name="salerules",
            constraint=models.CheckConstraint(condition=models.Q(("pk", 1)), name="billing_sale_rules_one"),
        ),
        migrations.AddConstraint(
            model_name="salerules",
            constraint=models.CheckConstraint(
                condition=models.Q(("quota_units", None), ("quota_units__gt", 0), _connector="OR"),
                name="billing_sale_rules_quota_above_zero",
            ),
        ),
        migrations.AddField(
            model_name="saleterms",
            name="published_by",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="saledeclaration",
            name="terms",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="acceptances",
                to="billing.saleterms",
            ),
        ),
        migrations.AddConstraint(
            model_name="tokenfacts",
            constraint=models.CheckConstraint(condition=models.Q(("pk", 1)), name="billing_token_facts_one"),
        ),
        migrations.AddIndex(
            model_name="salepurchase",
            index=models.Index(fields=["user", "-created_at"], name="billing_sale_of_user"),
        ),
        migrations.AddIndex(
            model_name="salepurchase",
            index=models.Index(fields=["state", "created_at"], name="billing_sale_waiting"),
        ),
        migrations.AddConstraint(
            model_name="salepurchase",
            constraint=models.CheckConstraint(
                condition=models.Q(("units__gt", 0)), name="billing_sale_purchase_above_zero"
            ),
        ),
        migrations.AddConstraint(
            model_name="salepurchase",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("asset", "card"), ("payment__isnull", False)),
                    models.Q(("asset", "card"), _negated=True),
                    _connector="OR",
                ),
                name="billing_sale_card_has_payment",
            ),
        ),
        migrations.AddConstraint(
            model_name="salepurchase",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "delivered"), _negated=True), ("event__isnull", False), _connector="OR"
                ),
                name="billing_sale_delivered_by_event",
            ),
        ),
        migrations.AddConstraint(
            model_name="saleorder",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ["asked", "sent"])),
                fields=("sale_round", "kind"),
                name="billing_sale_order_one_under_way",
            ),
        ),
        migrations.AddConstraint(
            model_name="saleorder",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "open"), _negated=True), ("price_nano_usd__gt", 0), _connector="OR"
                ),
                name="billing_sale_order_open_has_price",
            ),
        ),
        migrations.RunPython(load_table_1, migrations.RunPython.noop),
    ]
