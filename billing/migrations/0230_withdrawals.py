"""Deposits and withdrawals."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models
from django.db.migrations.operations.base import Operation


def rename_settled(apps: Any, _: object) -> None:
    """What is committed to a payout is not only earnings any more: withdrawals go the same way."""
    apps.get_model("billing", "Account").objects.filter(kind="earnings_settled").update(kind="settled")


def rename_back(apps: Any, _: object) -> None:
    apps.get_model("billing", "Account").objects.filter(kind="settled").update(kind="earnings_settled")


class Migration(migrations.Migration):
    dependencies: ClassVar[list[Any]] = [
        ("billing", "0220_sale"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations: ClassVar[list[Operation]] = [
        migrations.RunPython(rename_settled, rename_back),
        migrations.CreateModel(
            name='AutoClaim',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('threshold_units', models.BigIntegerField(help_text='Base units of NTC that a wallet must be able to claim.')),
                ('set_at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='GasQuote',
            fields=[
                ('id', models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                ('wei_per_gas', models.BigIntegerField()),
                ('nano_usd_per_ether', models.BigIntegerField(help_text='Empty: no price feed answers.', null=True)),
                ('taken_at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='SentDeposit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('transaction_hash', models.CharField(max_length=66)),
                ('units', models.BigIntegerField()),
                ('sent_at', models.DateTimeField()),
            ],
            options={
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='UnassignedDeposit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('units', models.BigIntegerField()),
                ('assigned_at', models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='WalletChallenge',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('nonce', models.CharField(max_length=40, unique=True)),
                ('issued_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField(db_index=True)),
                ('used_at', models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='Withdrawal',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('units', models.BigIntegerField(help_text='Base units of NTC.')),
                ('state', models.CharField(choices=[('asked', 'Waits for your confirmation'), ('held', 'Waits, because the address is new'), ('confirmed', 'Goes into the next epoch'), ('committed', 'In an epoch'), ('claimable', 'Ready to be paid'), ('paid', 'Paid'), ('cancelled', 'Cancelled')], default='asked', max_length=10)),
                ('asked_at', models.DateTimeField()),
                ('confirmed_at', models.DateTimeField(null=True)),
                ('held_until', models.DateTimeField(help_text='It waits until then, because its address is new.', null=True)),
                ('returned', models.PositiveSmallIntegerField(default=0, help_text='How often a veto took it out of an epoch; it goes into a later one.')),
                ('transaction_hash', models.CharField(blank=True, help_text='Of the payment to the address.', max_length=66)),
                ('paid_at', models.DateTimeField(null=True)),
                ('cancelled_at', models.DateTimeField(null=True)),
                ('reason', models.CharField(blank=True, help_text='Why it was cancelled.', max_length=200)),
            ],
            options={
                'ordering': ('-asked_at', '-id'),
            },
        ),
        migrations.RemoveConstraint(
            model_name='epoch',
            name='billing_epoch_cumulative',
        ),
        migrations.RemoveConstraint(
            model_name='payoutleaf',
            name='billing_payout_leaf_grows',
        ),
        migrations.AddField(
            model_name='epoch',
            name='withdrawal_units',
            field=models.BigIntegerField(default=0, help_text='Withdrawals this epoch adds.'),
        ),
        migrations.AddField(
            model_name='payoutleaf',
            name='withdrawal_units',
            field=models.BigIntegerField(default=0, help_text='Withdrawals this epoch added.'),
        ),
        migrations.AddField(
            model_name='wallet',
            name='active_from',
            field=models.DateTimeField(help_text='It waits to replace the active one; empty: it does not wait.', null=True),
        ),
        migrations.AddField(
            model_name='wallet',
            name='stopped_at',
            field=models.DateTimeField(help_text='The person said it is not theirs; nothing leaves to it.', null=True),
        ),
        migrations.AddField(
            model_name='wallet',
            name='told_at',
            field=models.DateTimeField(help_text='When the person got the e-mail about it; empty: not yet.', null=True),
        ),
        migrations.AddField(
            model_name='wallet',
            name='trusted_from',
            field=models.DateTimeField(default=django.utils.timezone.now, help_text='Before this moment no withdrawal leaves to it.'),
            preserve_default=False,
        ),
        migrations.AlterField(
            model_name='epoch',
            name='earned_units',
            field=models.BigIntegerField(default=0, help_text='Earnings this epoch adds.'),
        ),
        migrations.AlterField(
            model_name='payoutleaf',
            name='earned_units',
            field=models.BigIntegerField(help_text='Earnings this epoch added.'),
        ),
        migrations.AlterField(
            model_name='wallet',
            name='linked_at',
            field=models.DateTimeField(help_text='When it last became the active one, or was last entered.'),
        ),
        migrations.AddConstraint(
            model_name='epoch',
            constraint=models.CheckConstraint(condition=models.Q(('earned_units__gte', 0), ('withdrawal_units__gte', 0), ('cumulative_units__gte', django.db.models.expressions.CombinedExpression(models.F('earned_units'), '+', models.F('withdrawal_units')))), name='billing_epoch_cumulative'),
        ),
        migrations.AddConstraint(
            model_name='payoutleaf',
            constraint=models.CheckConstraint(condition=models.Q(('earned_units__gte', 0), ('withdrawal_units__gte', 0), models.Q(('earned_units__gt', 0), ('withdrawal_units__gt', 0), _connector='OR'), ('cumulative_units__gte', django.db.models.expressions.CombinedExpression(models.F('earned_units'), '+', models.F('withdrawal_units')))), name='billing_payout_leaf_grows'),
        ),
        migrations.AddConstraint(
            model_name='wallet',
            constraint=models.UniqueConstraint(condition=models.Q(('active_from__isnull', False)), fields=('user',), name='billing_wallet_one_waiting'),
        ),
        migrations.AddConstraint(
            model_name='wallet',
            constraint=models.CheckConstraint(condition=models.Q(('active', False), models.Q(('active_from', None), ('stopped_at', None)), _connector='OR'), name='billing_wallet_active_stands'),
        ),
        migrations.AddConstraint(
            model_name='wallet',
            constraint=models.CheckConstraint(condition=models.Q(('active_from', None), ('stopped_at', None), _connector='OR'), name='billing_wallet_waiting_stands'),
        ),
        migrations.AddField(
            model_name='autoclaim',
            name='user',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='auto_claim', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddConstraint(
            model_name='gasquote',
            constraint=models.CheckConstraint(condition=models.Q(('id', 1)), name='billing_gas_quote_one'),
        ),
        migrations.AddConstraint(
            model_name='gasquote',
            constraint=models.CheckConstraint(condition=models.Q(('wei_per_gas__gte', 0), models.Q(('nano_usd_per_ether', None), ('nano_usd_per_ether__gt', 0), _connector='OR')), name='billing_gas_quote_positive'),
        ),
        migrations.AddField(
            model_name='sentdeposit',
            name='user',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='unassigneddeposit',
            name='assigned_by',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='unassigneddeposit',
            name='event',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='unassigned', to='billing.chainevent'),
        ),
        migrations.AddField(
            model_name='unassigneddeposit',
            name='user',
            field=models.ForeignKey(help_text='Whom staff gave it to.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='walletchallenge',
            name='user',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='withdrawal',
            name='epoch',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='withdrawals', to='billing.epoch'),
        ),
        migrations.AddField(
            model_name='withdrawal',
            name='user',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='withdrawals', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='withdrawal',
            name='wallet',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='withdrawals', to='billing.wallet'),
        ),
        migrations.AddConstraint(
            model_name='autoclaim',
            constraint=models.CheckConstraint(condition=models.Q(('threshold_units__gt', 0)), name='billing_auto_claim_above_zero'),
        ),
        migrations.AddConstraint(
            model_name='sentdeposit',
            constraint=models.UniqueConstraint(fields=('user', 'transaction_hash'), name='billing_sent_deposit_once'),
        ),
        migrations.AddConstraint(
            model_name='sentdeposit',
            constraint=models.CheckConstraint(condition=models.Q(('units__gt', 0)), name='billing_sent_deposit_above_zero'),
        ),
        migrations.AddConstraint(
            model_name='unassigneddeposit',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('assigned_at', None), ('assigned_by', None), ('user', None)), models.Q(('assigned_at__isnull', False), ('assigned_by__isnull', False), ('user__isnull', False)), _connector='OR'), name='billing_unassigned_deposit_whole'),
        ),
        migrations.AddIndex(
            model_name='withdrawal',
            index=models.Index(fields=['user', 'asked_at'], name='billing_withdrawal_of_user'),
        ),
        migrations.AddIndex(
            model_name='withdrawal',
            index=models.Index(fields=['state'], name='billing_withdrawal_state'),
        ),
        migrations.AddConstraint(
            model_name='withdrawal',
            constraint=models.CheckConstraint(condition=models.Q(('units__gt', 0)), name='billing_withdrawal_above_zero'),
        ),
        migrations.AddConstraint(
            model_name='withdrawal',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('epoch__isnull', False), ('state__in', ('committed', 'claimable', 'paid'))), models.Q(models.Q(('state__in', ('committed', 'claimable', 'paid')), _negated=True), ('epoch', None)), _connector='OR'), name='billing_withdrawal_in_an_epoch'),
        ),
        migrations.AddConstraint(
            model_name='withdrawal',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['asked', 'cancelled']), ('confirmed_at__isnull', False), _connector='OR'), name='billing_withdrawal_confirmed'),
        ),
    ]
