"""Reserve checks and reconciliation."""

from __future__ import annotations

from typing import ClassVar

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.migrations.operations.base import Operation


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [
        ("billing", "0230_withdrawals"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations: ClassVar[list[Operation]] = [
        migrations.CreateModel(
            name='UsageDocument',
            fields=[
                ('sha256', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('text', models.TextField(help_text='Canonical JSON (RFC 8785).')),
            ],
        ),
        migrations.RunSQL(
            'INSERT INTO billing_usagedocument (sha256, text)'
            ' SELECT sha256, MIN(document) FROM billing_usagestatement GROUP BY sha256',
            migrations.RunSQL.noop,
        ),
        migrations.RemoveField(model_name='usagestatement', name='document'),
        migrations.AlterField(
            model_name='usagestatement',
            name='sha256',
            field=models.CharField(db_index=True, help_text='Of its `UsageDocument`.', max_length=64),
        ),
        migrations.CreateModel(
            name='ReconcileRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('started_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField()),
                ('outcome', models.CharField(choices=[('clean', 'All books agree'), ('difference', 'Differences'), ('incomplete', 'Not everything could be read')], max_length=10)),
                ('checks', models.JSONField(help_text='[{name, outcome, findings}], in order.')),
                ('by', models.ForeignKey(help_text='Empty: daily.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ('-started_at', '-id'),
            },
        ),
        migrations.CreateModel(
            name='ReserveSnapshot',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('taken_at', models.DateTimeField()),
                ('root', models.CharField(help_text="Hash of the tree's top node, hex (billing/sum_tree.py).", max_length=64)),
                ('people_units', models.BigIntegerField(help_text='Sum of the tree: all that people are owed, in base units.')),
                ('people', models.PositiveIntegerField(help_text='How many people the tree holds.')),
                ('leaves_count', models.PositiveIntegerField()),
                ('platform', models.JSONField(help_text="The platform's own NTC by account, {kind: base units}.")),
                ('debts_units', models.BigIntegerField(help_text='What people owe the platform, in base units; not netted.')),
                ('chain_id', models.BigIntegerField(help_text='Empty: the chain could not be read.', null=True)),
                ('contract', models.CharField(blank=True, help_text='The Settlement contract.', max_length=42)),
                ('contract_units', models.BigIntegerField(help_text='NTC the contract held, by the token, in base units.', null=True)),
                ('deposited_units', models.BigIntegerField(help_text='Ever deposited, by the contract.', null=True)),
                ('paid_units', models.BigIntegerField(help_text='Ever paid out, by the contract.', null=True)),
                ('arriving_units', models.BigIntegerField(default=0, help_text='Deposited there, not deep enough to be credited here.')),
                ('leaving_units', models.BigIntegerField(default=0, help_text='Paid out there, not deep enough to be booked here.')),
                ('block_number', models.BigIntegerField(null=True)),
                ('block_hash', models.CharField(blank=True, max_length=66)),
                ('block_time', models.DateTimeField(null=True)),
                ('statement_key', models.CharField(blank=True, help_text='The statement that carries it into an epoch.', max_length=200)),
            ],
            options={
                'ordering': ('-taken_at', '-id'),
                'constraints': [models.CheckConstraint(condition=models.Q(('people_units__gte', 0)), name='billing_reserves_not_negative'), models.CheckConstraint(condition=models.Q(('debts_units__gte', 0)), name='billing_reserves_debts'), models.CheckConstraint(condition=models.Q(('contract_units__isnull', True), models.Q(('block_number__isnull', False), models.Q(('contract', ''), _negated=True)), _connector='OR'), name='billing_reserves_with_block')],
            },
        ),
        migrations.CreateModel(
            name='ReserveLeaf',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveIntegerField()),
                ('units', models.BigIntegerField()),
                ('salt', models.CharField(help_text='Hex. Only the person learns it.', max_length=64)),
                ('document', models.TextField(help_text='Canonical JSON, exactly the bytes that are hashed.')),
                ('user', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('snapshot', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='leaves', to='billing.reservesnapshot')),
            ],
            options={
                'indexes': [models.Index(fields=['user', 'snapshot'], name='billing_reserve_leaf_of_user')],
                'constraints': [models.UniqueConstraint(fields=('snapshot', 'position'), name='billing_reserve_leaf_once'), models.CheckConstraint(condition=models.Q(('units__gte', 0)), name='billing_reserve_leaf_not_negative')],
            },
        ),
    ]
