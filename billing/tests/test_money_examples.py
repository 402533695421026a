"""Does what docs/money.md says, and compares with its tables: one set of numbers, two readers."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from billing import money
from billing.models import Account, Dispute, Entry, Payment, Transaction, UnassignedDeposit
from billing.services import accounts, chain_accounts, charges, deposits, desk, ledger, stripe_books, topups
from billing.services.charges import UsageCharge
from billing.services.ledger import Line, Posting
from billing.tests import cashing_out
from billing.tests.test_deposits import NOBODYS, event
from billing.tests.withdrawing import fund, withdraw

DOCUMENT = Path(__file__).parents[2] / "docs" / "money.md"
NTC = 10**9


def table(name: str) -> list[list[str]]:
    """Return the rows of a named table of the document, without its head."""
    found = re.search(rf"<!-- table: {name} -->\n((?:\|.*\n)+)", DOCUMENT.read_text())
    assert found, f"docs/money.md has no table named {name}"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]
    return rows[2:]


def units(text: str) -> int:
    """`+4.00` or `4.00 NTC` in base units."""
    return int(Decimal(text.replace("NTC", "").replace(",", "").strip()) * NTC)


def cents(text: str) -> int:
    """`$10.00` or `-2.50` in cents."""
    return int(Decimal(text.replace("$", "").replace(",", "")) * 100)


def expected(name: str, people: dict) -> set[tuple[int, int]]:
    """Return a posting table as {(account id, amount)}."""
    found = set()
    for who, ntc, usd in table(name):
        person, _, kind = who.rpartition(" ")
        if person:
            found.add((accounts.user_account(people[person].pk, kind), units(ntc)))
        else:
            found.add((accounts.platform_account(kind, "USD" if usd else "NTC"), cents(usd) if usd else units(ntc)))
    return found


def last_posting() -> set[tuple[int, int]]:
    newest = Transaction.objects.latest("id")
    return set(Entry.objects.filter(transaction=newest).values_list("account_id", "amount"))


@pytest.fixture
def people(cast) -> dict:
    return {"buyer": cast.buyer, "publisher": cast.publisher, "owner": cast.owner}


@pytest.fixture
def spend(cast, now):
    def go(amount: int) -> None:
        lines = (
            Line(accounts.user_account(cast.buyer.pk, "available"), -amount),
            Line(accounts.platform_account("commission"), amount),
        )
        ledger.post(postings=[Posting("spend", "test", lines, now)], now=now)

    return go


@pytest.mark.parametrize("row", table("quotes"), ids=lambda row: f"{row[1]} at {row[0]}")
def test_quotes(cast, now, row):
    rate, asked, gets, pays = row
    stock = (
        Line(accounts.platform_account("escrow"), -(10**15)),
        Line(accounts.platform_account("desk_inventory"), 10**15),
    )
    ledger.post(postings=[Posting("stock", "test", stock, now)], now=now)
    desk.set_rate(rate=Decimal(rate), by=cast.staff, now=now)
    wanted = {"units": units(asked)} if asked.endswith("NTC") else {"cents": cents(asked)}
    found = desk.price(now=now, **wanted)
    assert (money.format_ntc(found.units), money.format_usd_cents(found.cents)) == (gets, pays)


def test_purchase_and_refund(bought, cast, people, now):
    payment = bought(1000)
    assert last_posting() == expected("purchase", people)
    topups.refund_payment(payment_id=payment.pk, cents=250, by=cast.staff, now=now)
    assert last_posting() == expected("refund", people)


def test_refund_of_spent_ntc_and_repaying(bought, spend, cast, people, now):
    payment = bought(1000)
    spend(3 * NTC)
    topups.refund_payment(payment_id=payment.pk, cents=None, by=cast.staff, now=now)
    assert last_posting() == expected("refund-spent", people)
    bought(1000)
    assert last_posting() == expected("repay", people)


def _at_transaction(**filters: object) -> set[tuple[int, int]]:
    newest = Transaction.objects.filter(**filters).latest("id")
    return set(Entry.objects.filter(transaction=newest).values_list("account_id", "amount"))


def test_deposits(fake, cast, people, now):
    deposits.book(event(fake, chain_accounts.reference_of(user=cast.publisher), 7), now=now)
    assert last_posting() == expected("deposit", people)
    deposits.book(event(fake, NOBODYS, 7, number=2), now=now)
    assert last_posting() == expected("deposit-unassigned", people)
    waiting = UnassignedDeposit.objects.get()
    deposits.assign(deposit_id=waiting.pk, user=cast.publisher, by=cast.staff, now=now)
    assert last_posting() == expected("deposit-assigned", people)


def test_a_withdrawal(fake, cast, people):
    fund(fake, cast.publisher, 100)
    withdraw(fake, cast.publisher, 40)
    assert last_posting() == expected("withdrawal", people)
    fake.settle()
    for _ in range(3):
        fake.round(later=1)
    assert _at_transaction(kind="withdrawal_settled") == expected("withdrawal-settled", people)
    assert last_posting() == expected("withdrawal-paid", people)


@pytest.mark.parametrize(("button", "name"), [("lose", "dispute-lost"), ("win", "dispute-won")])
def test_disputes(bought, spend, stripe, people, now, button, name):
    payment: Payment = bought(1000)
    spend(3 * NTC)
    stripe.act("dispute", stripe.get(f"payment_intents/{payment.payment_intent_id}")["latest_charge"])
    topups.sync_payment(payment_id=payment.pk, now=now)
    assert last_posting() == expected("dispute-opened", people)
    stripe.act(button, Dispute.objects.get().pk)
    topups.sync_payment(payment_id=payment.pk, now=now)
    assert last_posting() == expected(name, people)


def test_the_fee_of_a_card_payment(bought, stripe, people, now):
    stripe_books.read(now=now)  # what other tests left in Stripe's books
    bought(1000)
    stripe_books.read(now=now)
    assert last_posting() == expected("stripe-fee", people)


@pytest.fixture
def cash_out(stripe, stocked_desk, cast, now):
    """Four of the owner's ten free NTC, confirmed for dollars."""
    cashing_out.earn(cast.owner, 10 * NTC, now)
    cashing_out.fund(stripe, 10_000, now)
    cashing_out.link_bank(stripe, cast.owner, now)
    return cashing_out.confirmed(cast.owner, now, units=4 * NTC)


@pytest.mark.parametrize(("button", "tables"), [("arrive", ["paid"]), ("bounce", ["dollars-back", "ntc-back"])])
def test_cashing_out(cash_out, stripe, people, now, button, tables):
    assert last_posting() == expected("cash-out-reserved", people)
    cash_out = cashing_out.advance(cash_out, now)
    assert last_posting() == expected("cash-out-transferred", people)
    stripe.act(button, cash_out.payout_id)
    cashing_out.advance(cash_out, now)
    made = Transaction.objects.filter(reference=cash_out.subject).order_by("id")[2:]
    found = [set(Entry.objects.filter(transaction=row).values_list("account_id", "amount")) for row in made]
    assert found == [expected(f"cash-out-{name}", people) for name in tables]


def test_meters_and_the_price_of_a_second_of_cpu():
    prices = {row[0].strip("`"): Decimal(row[2]) for row in table("meters")}
    assert set(prices) == {"transfer", "storage", "compute", "uptime", "active_user"}
    per_second = prices["compute"] * 1000  # 1,000 million instructions
    assert (
        f"**${per_second:.0f} per second of CPU time**, or ${per_second * 3600:,.0f} per hour" in DOCUMENT.read_text()
    )


def test_charging_carries_to_the_last_unit():
    rate, uptime = Decimal("0.3"), int(Decimal({r[0]: r[2] for r in table("meters")}["`uptime`"]) * money.NANO)
    charged = owner_total = carry = commission_carry = 0
    for row in table("charging"):
        total = uptime * int(row[0]) // 60
        due, charged = total - charged, total
        owner, carry = money.ntc_units_for_nano_usd(due, rate, carry)
        share, commission_carry = money.commission_units(owner, commission_carry)
        owner_total += owner
        shown = [
            row[0],
            money.format_nano_usd(total),
            money.format_nano_usd(due),
            money.plain_ntc(owner),
            str(carry),
            money.plain_ntc(share),
            str(commission_carry),
            money.plain_ntc(owner + share),
        ]
        assert shown == row
    assert (owner_total, carry) == money.ntc_units_for_nano_usd(charged, rate)
    assert f"sum to {money.format_ntc(owner_total)}" in DOCUMENT.read_text()


def test_charge_shortfall_and_release(cast, people, now):
    lines = (
        Line(accounts.platform_account("escrow"), -NTC),
        Line(accounts.user_account(cast.publisher.pk, "available"), NTC),
    )
    ledger.post(postings=[Posting("fund", "test", lines, now)], now=now)

    def charge(key: str) -> None:
        one = UsageCharge(key, cast.publisher.pk, cast.owner.pk, NTC // 2, NTC // 20, now, "lease:1")
        charges.charge_usage(charges=[one], now=now)

    charge("a")
    assert last_posting() == expected("charge", people)
    charge("b")
    assert last_posting() == expected("charge-short", people)
    charges.release_matured_earnings(now=now + timedelta(hours=24))
    assert last_posting() == expected("release", people)


def test_every_account_of_the_document_exists(db):
    named = set(
        re.findall(
            r"^\| ((?:`[a-z_]+`(?:, )?)+)(?: \(USD\))? \| (?:a person's|the platform's|a mirror)",
            DOCUMENT.read_text(),
            re.M,
        )
    )
    kinds = {kind for cell in named for kind in re.findall(r"`([a-z_]+)`", cell)}
    assert kinds
    assert kinds <= accounts.USER_KINDS | accounts.PLATFORM_KINDS
    assert not Account.objects.exists()


def test_the_token_sale(people, cast, db, settings, chain_settings, stripe):
    from billing.tests.saling import fake_shop

    shop = fake_shop(settings, stripe)
    shop.open(Decimal("0.10"))
    purchase = shop.pay(shop.checkout(cast.buyer, cents=1000))
    assert last_posting() == expected("sale-paid", people)
    shop.turn(3)
    assert last_posting() == expected("sale-delivered", people)
    topups.refund_payment(payment_id=purchase.payment_id, cents=400, by=cast.staff, now=shop.now)
    assert last_posting() == expected("sale-refund", people)
