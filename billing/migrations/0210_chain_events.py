"""Events read from the chain, and what to call a person there."""

from __future__ import annotations

from typing import Any, ClassVar

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.migrations.operations.base import Operation


class Migration(migrations.Migration):
    dependencies: ClassVar[list[Any]] = [
        ("billing", "0100_settlement"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations: ClassVar[list[Operation]] = [
        migrations.CreateModel(
            name='ChainAccount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(blank=True, help_text="The platform's own, e.g. desk; empty for a person's.", max_length=20)),
                ('reference', models.CharField(help_text='0x and 64 hexadecimal digits.', max_length=66, unique=True)),
                ('user', models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='chain_account', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='ChainBlock',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.BigIntegerField(unique=True)),
                ('hash', models.CharField(max_length=66)),
            ],
            options={
                'ordering': ('number',),
            },
        ),
        migrations.CreateModel(
            name='ChainEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('contract', models.CharField(help_text="The contract's name, e.g. Settlement.", max_length=20)),
                ('address', models.CharField(max_length=42)),
                ('name', models.CharField(help_text="The event's name, e.g. Deposited.", max_length=40)),
                ('values', models.JSONField(help_text='By name; whole numbers as text, bytes as 0x…, addresses in EIP-55 form.')),
                ('block_number', models.BigIntegerField(db_index=True)),
                ('block_hash', models.CharField(max_length=66)),
                ('block_time', models.DateTimeField()),
                ('block_index', models.PositiveIntegerField(help_text='Which event of its block, from 0.')),
                ('transaction_hash', models.CharField(max_length=66)),
                ('log_index', models.PositiveIntegerField(help_text='Which event of its transaction, from 0; the same in every block the transaction is in.')),
                ('state', models.CharField(choices=[('seen', 'Seen'), ('final', 'Final'), ('doubted', 'Final, but not on the chain any more'), ('vanished', 'Vanished')], default='seen', max_length=10)),
                ('seen_at', models.DateTimeField()),
                ('booked_at', models.DateTimeField(help_text='When it was deep enough and what it means was written down.', null=True)),
                ('unbooked', models.PositiveSmallIntegerField(default=0, help_text='How often that was undone, because even a final block vanished.')),
                ('error', models.CharField(blank=True, help_text='Why it cannot be booked yet.', max_length=300)),
            ],
            options={
                'ordering': ('-block_number', '-id'),
            },
        ),
        migrations.RemoveConstraint(
            model_name='chaintransaction',
            name='billing_chain_transaction_mined_hash',
        ),
        migrations.AddField(
            model_name='chaincursor',
            name='checked_block',
            field=models.BigIntegerField(default=0, help_text='Up to which block the events add up to what the contracts themselves count.'),
        ),
        migrations.AlterField(
            model_name='chaincursor',
            name='contract',
            field=models.CharField(help_text='The Settlement contract, which names them all.', max_length=42, unique=True),
        ),
        migrations.AddField(
            model_name='epoch',
            name='meters',
            field=models.JSONField(default=list, help_text="Sums of the statements' meters, in their order and base units."),
        ),
        migrations.AddField(
            model_name='usagestatement',
            name='meters',
            field=models.CharField(blank=True, help_text='What was used of each meter, whole base units separated by spaces.', max_length=200),
        ),
        migrations.AlterField(
            model_name='chaintransaction',
            name='state',
            field=models.CharField(choices=[('built', 'Signed and stored'), ('sent', 'Sent'), ('mined', 'In a block'), ('final', 'Final'), ('reverted', 'Refused by the contract'), ('displaced', 'Displaced: another transaction used its nonce')], default='built', max_length=10),
        ),
        migrations.AddConstraint(
            model_name='chaintransaction',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['built', 'sent', 'displaced']), models.Q(('mined_hash', ''), _negated=True), _connector='OR'), name='billing_chain_transaction_mined_hash'),
        ),
        migrations.AddIndex(
            model_name='chainevent',
            index=models.Index(fields=['contract', 'name'], name='billing_chain_event_kind'),
        ),
        migrations.AddIndex(
            model_name='chainevent',
            index=models.Index(fields=['state', 'block_number'], name='billing_chain_event_state'),
        ),
        migrations.AddConstraint(
            model_name='chainevent',
            constraint=models.UniqueConstraint(condition=models.Q(('state__in', ['seen', 'final'])), fields=('transaction_hash', 'log_index'), name='billing_chain_event_once'),
        ),
        migrations.AddConstraint(
            model_name='chainevent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('booked_at__isnull', False), ('state__in', ['final', 'doubted'])), models.Q(('booked_at', None), ('state__in', ['seen', 'vanished'])), _connector='OR'), name='billing_chain_event_booked_when_final'),
        ),
        migrations.AddConstraint(
            model_name='chainaccount',
            constraint=models.UniqueConstraint(condition=models.Q(('name', ''), _negated=True), fields=('name',), name='billing_chain_account_name'),
        ),
        migrations.AddConstraint(
            model_name='chainaccount',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('name', ''), ('user__isnull', False)), models.Q(('user', None), models.Q(('name', ''), _negated=True)), _connector='OR'), name='billing_chain_account_whose'),
        ),
    ]
