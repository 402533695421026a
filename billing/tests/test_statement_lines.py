"""Each line of a statement leads to what proves it: usage statement, signed batches, epoch, hash on the chain."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest
from django.urls import reverse

from billing.models import UsageStatement
from billing.services import charges, statements
from billing.services.charges import UsageCharge
from billing.statement_lines import with_evidence
from billing.tests.settling import NTC, World
from billing.tests.withdrawing import fund, withdraw


@pytest.fixture
def charged(fake: World, cast) -> World:
    """The owner earned 5 NTC from the publisher, with a statement that rests on one signed batch; it is settled."""
    fund(fake, cast.publisher, 100)
    charge = UsageCharge("charge:1", cast.publisher.pk, cast.owner.pk, 5 * NTC, NTC, fake.now, "deployment:1", "Use")
    charges.charge_usage(charges=[charge], now=fake.now)
    draft = statements.StatementDraft("charge:1", {"evidence": ["ba" * 32]})
    statements.record_statements(drafts=[draft], now=fake.now)
    fake.link(cast.owner)
    fake.now += timedelta(days=2)
    charges.release_matured_earnings(now=fake.now)
    fake.settle()
    return fake


def lines(client, kind: str):
    return client.get(reverse("ledger"), {"account": kind}).context["lines"]


def test_a_charge_names_statement_batch_epoch_and_hash(charged: World, cast, client):
    client.force_login(cast.owner)
    [line] = lines(client, "earnings_held")[-1:]
    statement = UsageStatement.objects.get()
    assert (line.sha256, line.batches, line.epoch) == (statement.sha256, ("ba" * 32,), 1)
    assert line.transaction_hash == statement.epoch.posting.hash
    page = client.get(reverse("ledger"), {"account": "earnings_held"}).content.decode()
    assert reverse("bill_proof", args=[line.entry.pk]) in page
    assert reverse("settlement_detail", args=[1]) in page


def test_what_is_settled_names_its_epoch(charged: World, cast, client):
    client.force_login(cast.owner)
    [line] = lines(client, "settled")
    assert (line.epoch, bool(line.transaction_hash)) == (1, True)


def test_a_withdrawal_leads_to_its_page_and_its_epoch(charged: World, cast, client):
    client.force_login(cast.publisher)
    withdrawal = withdraw(charged, cast.publisher, 10)
    charged.settle()
    [line] = [line for line in lines(client, "available") if line.withdrawal_id]
    assert (line.withdrawal_id, line.epoch) == (str(withdrawal.pk), 2)
    assert {line.epoch for line in lines(client, "settled")} >= {2}


def test_the_csv_says_the_same(charged: World, cast, client):
    client.force_login(cast.owner)
    answer = client.get(reverse("ledger_csv"), {"account": "earnings_held"})
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    statement = UsageStatement.objects.get()
    row = next(row for row in rows if row["statement_sha256"])
    assert (row["statement_sha256"], row["batches"], row["epoch"]) == (statement.sha256, "ba" * 32, "1")
    assert row["ethereum_transaction"] == statement.epoch.posting.hash


def test_the_evidence_of_a_page_takes_a_few_queries(charged: World, cast, django_assert_max_num_queries):
    from billing import queries

    page = queries.statement(cast.owner.pk, "earnings_held")
    with django_assert_max_num_queries(5):
        assert list(with_evidence(page.entries * 20))


def test_the_stranger_sees_none_of_it(charged: World, cast, client):
    client.force_login(cast.stranger)
    assert lines(client, "earnings_held") == []
