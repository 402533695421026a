"""Reconciliation: each kind of fault is put into the books by hand, and must be named; what is on its way must not.

Longer than 300 lines because all kinds of faults share one set of books, and a gap shows when they stand side by side.
"""

from __future__ import annotations

import time
from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.urls import reverse

from billing.chain import client
from billing.chain.errors import ChainUnavailable
from billing.chain.states import EventState
from billing.models import Account, ChainEvent, Dispute, Entry, Epoch, HeldEarning, Payment, ReconcileRun, Transaction
from billing.services import (
    accounts,
    chain_accounts,
    charges,
    ledger,
    reconcile,
    reconcile_ledger,
    reconcile_stripe,
    reserves,
    topups,
)
from billing.services.charges import UsageCharge
from billing.services.ledger import Line, Posting
from billing.states import ReconcileOutcome
from billing.stripe import gateway
from billing.stripe.gateway import NewCheckout
from interchain_site.core.models import StaffAlert
from interchain_site.testing.anvil import Anvil
from interchain_site.testing.stripe import stand_in

NTC = 10**9
CLEAN, DIFFERENCE, INCOMPLETE = ReconcileOutcome.CLEAN, ReconcileOutcome.DIFFERENCE, ReconcileOutcome.INCOMPLETE


def holds(world) -> None:
    """The chain in memory does not move tokens into the Settlement contract; say that they are there."""
    if not world.real:
        deposited, paid = world.deployment.contract.totals(world.chain)
        world.node.contracts[world.deployment.intercoin].balances[world.deployment.settlement] = deposited - paid


def compare(world) -> ReconcileRun:
    return reconcile.run(now=world.now, chain=world.chain)


def deposit(world, person, ntc: int) -> None:
    """The person's NTC are on the chain; the ledger knows it after a round."""
    reference = chain_accounts.reference_of(user=person)
    if world.real:
        # The sale contract's cashier deposits for anybody.
        from billing.chain import keys
        from billing.chain.sale import TokenSale
        from billing.chain.types import Fees

        signer = keys.development_signer(3)
        call = TokenSale(world.deployment.sale).allocate(
            account=reference, units=ntc * NTC, reference="0x" + uuid4().hex * 2
        )
        nonce = world.chain.transaction_count(signer.address)
        signed = signer.sign(call, chain_id=31337, nonce=nonce, gas=500_000, fees=Fees(10**10, 10**9))
        world.chain.send(signed.raw)
        world.node.mine()
    else:
        world.node.call_directly(world.deployment.contract.deposit(reference=reference, amount=ntc * NTC))
    holds(world)


@pytest.fixture
def books(world, cast):
    """A site in order: desk stocked, an owner settled and paid in part, a publisher who deposited."""
    deposit(world, cast.publisher, 50)
    world.round(later=1)
    world.earn(cast.owner, 5)
    wallet = world.link(cast.owner)
    world.settle()
    world.claim(wallet)
    world.earn(cast.owner, 2)
    world.settle()
    holds(world)
    return world


def without_triggers(sql: str, values: list) -> None:
    """Do what no service can: change the books behind the triggers' back."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            for table in ("billing_account", "billing_entry", "billing_transaction"):
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        else:
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'billing%'")
            for (name,) in cursor.fetchall():
                cursor.execute(f'DROP TRIGGER "{name}"')
        cursor.execute(sql, values)


def test_books_in_order_are_clean(books):
    made = compare(books)
    assert made.outcome == CLEAN, reconcile.report(made)
    assert reconcile.withdrawals_blocked() == ""
    assert "All books agree." in reconcile.report(made)


def test_a_deposit_that_is_not_deep_enough_is_explained(books, cast, settings):
    settings.ETHEREUM_CONFIRMATIONS = 5
    deposit(books, cast.publisher, 7)
    made = compare(books)
    assert made.outcome == CLEAN, reconcile.report(made)
    assert "7.00 NTC deposited, not deep enough" in reconcile.report(made)


def test_a_deposit_that_the_comparison_itself_books_is_no_difference(books, cast):
    deposit(books, cast.publisher, 7)  # deep enough, and no round has looked yet
    made = compare(books)
    assert made.outcome == CLEAN, reconcile.report(made)


def test_a_payment_that_is_not_deep_enough_is_explained(books, cast, settings):
    settings.ETHEREUM_CONFIRMATIONS = 5
    wallet = cast.owner.wallets.get()
    epoch = Epoch.objects.filter(closed_at__isnull=False).first()
    books.claim_by_stranger(wallet, epoch, 7 * NTC)
    holds(books)
    made = compare(books)
    assert made.outcome == CLEAN, reconcile.report(made)
    assert "2.00 NTC paid out, not deep enough" in reconcile.report(made)


def test_a_balance_edited_behind_the_trigger_is_named(books, cast):
    account = Account.objects.get(user=cast.publisher, kind="available", currency="NTC")
    without_triggers("UPDATE billing_account SET balance = balance + 1000000000 WHERE id = %s", [account.pk])
    made = compare(books)
    assert made.outcome == DIFFERENCE
    assert (
        f"Account {account.pk} (available, person {cast.publisher.pk}) says 51.00 NTC, its entries sum to 50.00 NTC."
        in made.findings
    )


def test_an_entry_edited_behind_the_trigger_is_named(books, cast):
    entry = Entry.objects.filter(account__user=cast.publisher).first()
    without_triggers("UPDATE billing_entry SET amount = amount + 5 WHERE id = %s", [entry.pk])
    found = " ".join(compare(books).findings)
    assert f"Transaction {entry.transaction_id} does not balance" in found
    assert f"Account {entry.account_id}" in found


def test_a_transaction_without_entries_is_named(books):
    row = Transaction.objects.first()
    without_triggers("DELETE FROM billing_entry WHERE transaction_id = %s", [row.pk])
    assert f"Transaction {row.pk} ({row.key}) has no entries." in compare(books).findings


def test_a_balance_below_zero_that_may_not_be_is_named(books, cast):
    account = Account.objects.get(user=cast.publisher, kind="available", currency="NTC")
    without_triggers("UPDATE billing_account SET balance = -5, may_be_negative = %s WHERE id = %s", [True, account.pk])
    assert any("is below zero" in words for words in compare(books).findings)


def test_held_earnings_that_are_not_listed_are_named(books, cast):
    charge(books, cast)
    HeldEarning.objects.all().delete()
    assert any("its list of held earnings 0.00 NTC" in words for words in compare(books).findings)


def test_escrow_moved_without_an_event_is_named(books, cast):
    lines = (
        Line(accounts.platform_account("escrow"), -NTC),
        Line(accounts.user_account(cast.stranger.pk, "available"), NTC),
    )
    ledger.post(postings=[Posting("invented", "test", lines, books.now)], now=books.now)
    assert any("booked events of the contract" in words for words in compare(books).findings)


def test_settled_earnings_moved_around_the_epoch_are_named(books, cast):
    lines = (
        Line(accounts.user_account(cast.owner.pk, "settled"), -NTC),
        Line(accounts.user_account(cast.owner.pk, "available"), NTC),
    )
    ledger.post(postings=[Posting("around", "test", lines, books.now)], now=books.now)
    assert any("payout tree promises" in words for words in compare(books).findings)


def move_tokens(books, *, giver: str, taker: str, units: int) -> None:
    """Move NTC from an address that signs for nobody."""
    if isinstance(books.node, Anvil):
        books.node.ask("anvil_impersonateAccount", giver)
        books.node.ask("anvil_setBalance", giver, hex(10**18))
        call = books.deployment.token.transfer(to=taker, amount=units)
        books.node.ask("eth_sendTransaction", {"from": giver, "to": call.to, "data": "0x" + call.data.hex()})
        books.node.mine()
    else:
        balances = books.node.contracts[books.deployment.intercoin].balances
        balances[giver] = balances.get(giver, 5_000_000 * NTC) - units
        balances[taker] = balances.get(taker, 0) + units


def test_tokens_gone_from_the_contract_are_named(books):
    move_tokens(books, giver=books.deployment.settlement, taker="0x" + "11" * 20, units=3 * NTC)
    made = compare(books)
    assert any("3.00 NTC are missing in the contract" in words for words in made.findings), made.findings


def test_tokens_sent_to_the_contract_without_a_deposit_are_nobodys(books):
    move_tokens(books, giver=books.deployment.vault, taker=books.deployment.settlement, units=NTC)
    made = compare(books)
    assert made.outcome == CLEAN
    assert "sent to the contract without a deposit" in reconcile.report(made)


def test_an_event_forgotten_after_it_was_booked_is_found(books):
    """Somebody deletes the row: read again it would be booked twice, so the ledger's key refuses and the books differ."""
    ChainEvent.objects.filter(name="Deposited", state=EventState.FINAL).order_by("pk").first().delete()
    made = compare(books)
    assert made.outcome != CLEAN
    assert made.outcome == DIFFERENCE or any("node" in line for check in made.checks for line in check["findings"])


def test_a_difference_blocks_payments_and_a_clean_run_lifts_it(
    books, cast, mailoutbox, django_capture_on_commit_callbacks
):
    holds(books)
    account = Account.objects.get(user=cast.publisher, kind="available", currency="NTC")
    without_triggers("UPDATE billing_account SET balance = balance + 1 WHERE id = %s", [account.pk])
    with django_capture_on_commit_callbacks(execute=True):
        compare(books)
    assert "paused" in reconcile.withdrawals_blocked()
    alert = StaffAlert.objects.get(code=reconcile.DIFFER, cleared_at=None)
    assert "manage.py reconcile" in alert.mend
    assert any("books differ" in mail.subject for mail in mailoutbox)
    assert charge(books, cast) == NTC // 10 * 11  # apps that run go on being charged
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_account SET balance = (SELECT SUM(amount) FROM billing_entry WHERE account_id = billing_account.id) WHERE id = %s",
            [account.pk],
        )
        cursor.execute(
            "UPDATE billing_account SET balance = COALESCE((SELECT SUM(amount) FROM billing_entry WHERE account_id = billing_account.id), 0)"
        )
    made = compare(books)
    assert made.outcome == CLEAN, reconcile.report(made)
    assert reconcile.withdrawals_blocked() == ""
    assert not StaffAlert.objects.filter(code=reconcile.DIFFER, cleared_at=None).exists()


def test_a_node_that_does_not_answer_changes_nothing(books):
    made = reconcile.run(now=books.now, chain=None, unread="The Ethereum node does not answer.")
    assert made.outcome == INCOMPLETE
    assert reconcile.withdrawals_blocked() == ""
    assert StaffAlert.objects.filter(code=reconcile.UNREAD, cleared_at=None).exists()
    ReconcileRun.objects.create(started_at=books.now, finished_at=books.now, outcome=DIFFERENCE, checks=[])
    reconcile.run(now=books.now + timedelta(seconds=1), chain=None, unread="Still nothing.")
    assert reconcile.withdrawals_blocked() != ""


def test_it_is_due_daily_and_sooner_after_an_incomplete_run(books, settings):
    assert reconcile.is_due(now=books.now)
    compare(books)
    assert not reconcile.is_due(now=books.now + timedelta(hours=23))
    assert reconcile.is_due(now=books.now + timedelta(hours=24))
    later = books.now + timedelta(hours=24)
    reconcile.run(now=later, chain=None, unread="No node.")
    assert reconcile.is_due(now=later + timedelta(hours=1))


def test_the_reserves_cover_what_is_owed(books, client):
    snapshot = reserves.take_snapshot(now=books.now, chain=books.chain)
    assert snapshot.is_covered
    assert snapshot.contract_units == snapshot.owed_units == snapshot.deposited_units - snapshot.paid_units
    assert "Covered" in client.get(reverse("reserves")).content.decode()


def test_the_reserves_page_says_when_tokens_are_missing(fake, client):
    holds(fake)
    fake.node.contracts[fake.deployment.intercoin].balances[fake.deployment.settlement] -= 1
    snapshot = reserves.take_snapshot(now=fake.now, chain=fake.chain)
    assert not snapshot.is_covered
    assert "Not covered" in client.get(reverse("reserves")).content.decode()


def test_the_command_prints_a_report_and_says_it_in_its_exit_code(fake, monkeypatch):
    holds(fake)
    monkeypatch.setattr(client, "connect", lambda: fake.chain)
    out = StringIO()
    call_command("reconcile", stdout=out)
    assert "agrees    entries sum to zero" in out.getvalue()
    monkeypatch.setattr(client, "connect", _no_node)
    with pytest.raises(CommandError) as refused:
        call_command("reconcile", stdout=out)
    assert refused.value.returncode == 3


def _no_node():
    raise ChainUnavailable("The Ethereum node does not answer.")


def charge(world, cast) -> int:
    """Charge the publisher for a use; returns what was paid and owed together."""
    use = UsageCharge("use:1", cast.publisher.pk, cast.owner.pk, NTC, NTC // 10, world.now, "deployment:1")
    [result] = charges.charge_usage(charges=[use], now=world.now)
    return result.paid_units + result.shortfall_units


@pytest.fixture
def _stand_in(tmp_path):
    """A Stripe of this test's own: what other tests paid for would be charges nobody knows."""
    with stand_in(tmp_path / "stripe.sqlite3") as running:
        yield running


# --- Stripe -----------------------------------------------------------------------------------------------------------


def stripe_at(now, minutes: int = 60):
    """Compare with Stripe once news had time to arrive."""
    return reconcile_stripe.stripe(now=now + timedelta(minutes=minutes))


def test_payments_that_agree_are_clean(bought, now):
    bought()
    bought()
    later = now + timedelta(hours=1)
    check = reconcile_stripe.stripe(now=later)
    assert check.outcome == CLEAN, check.differences
    assert check.facts == [f"2 charges since {reconcile_stripe._since(later):%Y-%m-%d}"]


def test_a_charge_we_do_not_know_is_named(stripe, stocked_desk, now):
    new = NewCheckout(
        reference=str(uuid4()), cents=1234, description="Not ours", email="x@example.com",
        success_url="http://localhost/ok", cancel_url="http://localhost/no", expires_at=now + timedelta(hours=1),
    )  # fmt: skip
    stripe.pay(gateway.create_checkout(new).url)
    [words] = stripe_at(now).differences
    assert "over $12.34 belongs to no payment of ours" in words


def test_a_payment_stripe_does_not_list_is_named(bought, now):
    payment = bought()
    Payment.objects.filter(pk=payment.pk).update(payment_intent_id="pi_invented")
    found = " ".join(stripe_at(now).differences)
    assert f"Payment {payment.pk} over $10.00 is paid here, but Stripe lists no charge." in found


def test_another_amount_is_named(bought, now):
    payment = bought()
    Payment.objects.filter(pk=payment.pk).update(cents=payment.cents + 1)
    assert f"is $10.01 here (payment {payment.pk})" in " ".join(stripe_at(now).differences)


def test_a_payment_not_heard_of_yet_is_under_way_at_first_and_missing_later(checkout, stripe, now):
    payment = checkout()
    stripe.pay(payment.session_url)
    soon = stripe_at(now, minutes=1)
    assert soon.outcome == CLEAN
    assert "under way" in " ".join(soon.facts)
    assert f"is paid there, but not here (payment {payment.pk})" in " ".join(stripe_at(now).differences)


def test_a_refund_made_on_stripes_own_pages_is_named_until_it_is_followed(bought, stripe, now):
    payment = bought()
    charge = stripe.get(f"charges?payment_intent={payment.payment_intent_id}")["data"][0]["id"]
    stripe.act("refund", charge)
    assert "is refunded $10.00 there and $0.00 here" in " ".join(stripe_at(now).differences)
    topups.sync_payment(payment_id=payment.pk, now=now)
    assert stripe_at(now).outcome == CLEAN


def test_a_dispute_we_do_not_know_is_named(checkout, stripe, now):
    payment = checkout()
    stripe.pay(payment.session_url, "4000000000000259")
    give_up_at = time.monotonic() + 10
    while not stripe.get("disputes")["data"] and time.monotonic() < give_up_at:
        time.sleep(0.02)
    topups.sync_payment(payment_id=payment.pk, now=now)
    assert stripe_at(now).outcome == CLEAN
    Dispute.objects.all().delete()
    assert any("dispute" in words and "is not known here" in words for words in stripe_at(now).differences)


def test_stripe_that_does_not_answer_is_unread(bought, settings, now):
    bought()
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    check = reconcile_stripe.stripe(now=now)
    assert check.outcome == INCOMPLETE
    assert "not answering" in check.unread


def test_without_card_payments_there_is_nothing_to_compare(db, settings, now):
    settings.STRIPE_SECRET_KEY = ""
    check = reconcile_stripe.stripe(now=now)
    assert (check.outcome, check.facts) == (CLEAN, ["card payments are not set up"])


def test_of_very_many_differences_only_the_first_are_named(db, cast, now):
    check = reconcile_ledger.entries()
    check.differ(*[str(number) for number in range(100)])
    assert len(check.differences) == 21
