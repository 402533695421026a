"""Fill an empty site's database with the cast and something on every page, then print what a browser needs.

Run as a program in the site's own environment, so that the test process never touches the site's database:
`python -m interchain_site.testing.seed [--people-only]` prints JSON `{"sessions": {person: cookie}, "arguments": {url name: [...]}}`.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from interchain_site.testing.cast import Cast

NTC = 10**9
DIGEST = "registry.example/{name}@sha256:" + "a1b2c3d4" * 8
WALLET = "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720"
HASH = "0x" + "5f" * 32
PEOPLE_ONLY = "--people-only"


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "interchain_site.settings")
    django.setup()
    from django.test import Client
    from django.utils import timezone

    from interchain_site.testing.cast import make_cast

    cast, now = make_cast(), timezone.now()
    arguments = {} if PEOPLE_ONLY in sys.argv else content(cast, now)
    sessions = {}
    for field in fields(cast):
        client = Client()
        client.force_login(getattr(cast, field.name))
        sessions[field.name] = client.cookies["sessionid"].value
    sys.stdout.write(json.dumps({"sessions": sessions, "arguments": arguments}))


def content(cast: Cast, now: datetime) -> dict[str, list[str]]:
    """Put something on every page; returns arguments for the pages that take some."""
    money(cast, now)
    arguments = {
        **purchases(cast, now),
        **apps_and_devices(cast, now),
        **settlement(cast, now),
        **token_sale(cast, now),
        **cash_outs(cast, now),
    }
    proofs(now)
    return {**arguments, **transfers(cast, now)}


def money(cast: Cast, now: datetime) -> None:
    """A rate, a stocked desk, and 10,000 NTC for the publisher."""
    from billing.services import accounts, desk, ledger

    escrow, publisher = accounts.platform_account("escrow"), accounts.user_account(cast.publisher.pk, "available")
    stock = (ledger.Line(escrow, -50_000 * NTC), ledger.Line(accounts.platform_account("desk_inventory"), 50_000 * NTC))
    deposit = (ledger.Line(escrow, -10_000 * NTC), ledger.Line(publisher, 10_000 * NTC))
    postings = [
        ledger.Posting("genesis", "genesis", stock, now),
        ledger.Posting("deposit", "deposit", deposit, now, memo="Deposit"),
    ]
    ledger.post(postings=postings, now=now)
    desk.set_rate(rate=Decimal("0.50"), by=cast.staff, now=now - timedelta(days=1))


def purchases(cast: Cast, now: datetime) -> dict[str, list[str]]:
    """The buyer has a quote, a payment that was credited, and one that waits for the card."""
    import httpx

    from billing.services import desk, topups

    card = {"number": "4242424242424242", "expiry": "12 / 40", "cvc": "123", "name": "A Person"}
    paid = topups.start_checkout(
        quote_id=desk.quote(user=cast.buyer, cents=5_000, now=now).pk, user=cast.buyer, now=now
    )
    httpx.post(paid.session_url, data=card, timeout=10)
    topups.sync_payment(payment_id=paid.pk, now=now)
    topups.start_checkout(quote_id=desk.quote(user=cast.buyer, cents=900, now=now).pk, user=cast.buyer, now=now)
    quote = str(desk.quote(user=cast.buyer, cents=2_000, now=now).pk)
    payment = [str(paid.pk)]
    return {"quote_detail": [quote], "payment_detail": payment, "payment_status": payment}


def cash_outs(cast: Cast, now: datetime) -> dict[str, list[str]]:
    """The owner has a bank, one cash-out that is on its way, and one that waits for its code."""
    import httpx
    from django.conf import settings

    from billing.models import Confirmation, ConnectAccount
    from billing.services import accounts, cash_out_steps, cash_outs, connect_accounts, ledger, stripe_books
    from interchain_site.testing.stripe import StandIn

    stripe = StandIn(settings.STRIPE_API_BASE)
    httpx.post(f"{stripe.url}/dashboard/top-up/platform", data={"amount": "1000"}, timeout=10)
    stripe_books.read(now=now)
    earned = accounts.user_account(cast.owner.pk, "earnings_available")
    lines = (ledger.Line(accounts.platform_account("escrow"), -500 * NTC), ledger.Line(earned, 500 * NTC))
    ledger.post(postings=[ledger.Posting("earned", "earnings_released", lines, now)], now=now)
    stripe.onboard(connect_accounts.start_onboarding(user=cast.owner, country="US", now=now))
    connect_accounts.sync(account_id=ConnectAccount.objects.get(user=cast.owner).pk, now=now)
    sent = cash_outs.ask(user=cast.owner, units=120 * NTC, now=now)
    Confirmation.objects.filter(subject=sent.subject).update(confirmed_at=now)
    cash_outs.go_on(cash_out_id=sent.pk, user=cast.owner, now=now)
    cash_out_steps.advance(cash_out_id=sent.pk, now=now)
    asked = [str(cash_outs.ask(user=cast.owner, units=40 * NTC, now=now).pk)]
    return {"cash_out_detail": asked, "cash_out_status": asked}


def apps_and_devices(cast: Cast, now: datetime) -> dict[str, list[str]]:
    """The owner's device runs the publisher's website, which was measured and charged; other apps are in other states."""
    from interchain_site.testing.devices import make_device
    from marketplace.services import charging, deployments, publishing
    from nodes.agent import protocol
    from nodes.models import Lease
    from nodes.services import enrolment

    box = make_device(cast.owner, "Study PC")
    enrolment.create_device(owner=cast.owner, name="Old laptop", region="us")
    for name, slug in (("Harbour Café", "harbour-cafe"), ("Night batch", "night-batch"), ("Guest book", "guest-book")):
        app = publishing.register_app(name=name, slug=slug, by=cast.publisher)
        publishing.add_release(
            app=app,
            spec=publishing.ReleaseSpec(
                image_reference=DIGEST.format(name=slug), environment={"COLOUR": "teal"}, secrets={"API_KEY": "s3cret"}
            ),
            by=cast.publisher,
        )
        if slug == "guest-book":
            break
        lease = Lease.objects.get(workload_id=deployments.deploy(app=app, by=cast.publisher).pk)
        if slug == "harbour-cafe":
            box.runs(lease)
            box.measures(lease, uptime=7_200_000, transfer=120_000_000, compute=9_000_000, storage=200_000_000 * 7_200)
        else:
            box.says(lease, protocol.Observed.PREPARING)
            box.says(
                lease,
                protocol.Observed.FAILED,
                reason=protocol.Reason.EXITED,
                message="The program ended with code 1.",
                log_tail="Traceback: no module named report\n",
            )
    publishing.register_app(name="Draft", slug="draft", by=cast.publisher)
    charging.charge_new_readings()
    website = ["harbour-cafe"]
    return {
        "app_detail": website,
        "app_data": website,
        "release_new": website,
        "app_deploy": ["guest-book"],
        "device_detail": [box.id],
        "device_limits": [box.id],
    }


def settlement(cast: Cast, now: datetime) -> dict[str, list[str]]:
    """One epoch is final on the chain, the owner's wallet holds its leaf."""
    from billing.chain.states import EpochState, TransactionState
    from billing.models import ChainSender, ChainTransaction, Epoch
    from billing.services import charges, wallets
    from billing.services import settlement as epochs

    wallets.link_confirmed(address=WALLET, by=cast.owner, now=now)
    later = now + timedelta(days=2)
    epochs.open_epoch(now=now - timedelta(hours=1))
    charges.release_matured_earnings(now=later)
    epoch = epochs.close_epoch(now=later)
    if epoch is None:
        raise AssertionError("Nothing was earned, so there is no epoch to show.")
    sender = ChainSender.objects.create(chain_id=31337, address=WALLET, next_nonce=1)
    sent = ChainTransaction.objects.create(
        key="epoch:1:1",
        sender=sender,
        nonce=0,
        to=WALLET,
        data=b"",
        gas_limit=100_000,
        state=TransactionState.FINAL,
        created_at=now,
        mined_hash=HASH,
        block_number=42,
        gas_used=51_234,
        gas_price=10**9,
        mined_at=now,
        final_at=now,
    )
    Epoch.objects.filter(pk=epoch.pk).update(
        state=EpochState.FINAL, posting=sent, contract=WALLET, mined_at=now, claimable_at=now, final_at=now
    )
    return {"settlement_detail": [str(epoch.sequence)]}


def transfers(cast: Cast, now: datetime) -> dict[str, list[str]]:
    """The publisher has a deposit that was credited, one that waits for confirmations, and withdrawals in several states."""
    from billing.chain.deployments import Deployment, record
    from billing.models import ChainBlock, ChainEvent, Withdrawal
    from billing.services import chain_accounts, chain_events, confirmations, wallets, withdrawals

    contracts = ("intercoin", "settlement", "sale", "vault", "timelock", "stablecoin", "ether_feed", "ntc_feed")
    record(Deployment(chain_id=31_337, block=1, **dict.fromkeys(contracts, WALLET)))
    reference = chain_accounts.reference_of(user=cast.publisher)
    ChainBlock.objects.create(number=100, hash=HASH)
    for number, ntc in ((90, 250), (100, 40)):
        event = ChainEvent.objects.create(
            contract="Settlement",
            address=WALLET,
            name="Deposited",
            values={"account": reference, "payer": WALLET, "amount": str(ntc * NTC)},
            block_number=number,
            block_index=0,
            block_hash=HASH,
            block_time=now - timedelta(hours=1),
            transaction_hash="0x" + f"{number:064x}",
            log_index=0,
            seen_at=now,
        )
        if number < 100:
            chain_events.book(event_id=event.pk, now=now)
    wallet = wallets.remember(address="0x14dC79964da2C08b23698B3D3cc7Ca32193d9955", by=cast.publisher, now=now)
    rows = []
    for ntc in (12, 30, 7):
        row = withdrawals.ask(wallet_id=wallet.pk, units=ntc * NTC, by=cast.publisher, now=now)
        rows.append(row)
    confirmations.accept(subject=withdrawals.subject(rows[0]), user=cast.publisher, by="seed", now=now)
    withdrawals.reserve(withdrawal_id=rows[0].pk, by=cast.publisher, now=now)
    withdrawals.cancel(withdrawal_id=rows[1].pk, by=cast.publisher, now=now)
    asked = Withdrawal.objects.get(pk=rows[2].pk)
    return {
        "withdrawal_detail": [str(asked.pk)],
        "withdrawal_status": [str(asked.pk)],
        "wallet_stop": [wallets.stop_token(wallet)],
    }


def token_sale(cast: Cast, now: datetime) -> dict[str, list[str]]:
    """Round 1 is open, the chain was read, and the buyer has paid for a purchase that is not on the chain yet."""
    import httpx

    from billing.models import SaleRound, TokenFacts
    from billing.services import sale_purchases, topups

    names = ("intercoin", "sale", "vault", "settlement", "timelock", "stablecoin", "ether_feed", "ntc_feed", "treasury")
    figures = {
        "chain_id": 31_337,
        "supply": 25_000_000 * NTC,
        "vault_balance": 5_000_000 * NTC,
        "settlement_balance": 60_000 * NTC,
        "stablecoin_decimals": 6,
        "stablecoin_cost": 100_000,
        "wei_cost": 4 * 10**13,
        "vault_window_seconds": 30 * 86_400,
    }
    values = {**{name: str(value) for name, value in figures.items()}, **dict.fromkeys(names, WALLET)}
    TokenFacts.objects.create(pk=1, values={**values, "stablecoin_symbol": "tUSD"}, block_number=4_242, checked_at=now)
    SaleRound.objects.filter(number=1).update(
        price_nano_usd=100_000_000, opened_at=now - timedelta(days=3), sold_units=3_456_789 * NTC
    )
    quote = sale_purchases.quote(user=cast.buyer, cents=5_000, now=now)
    paid = topups.start_checkout(quote_id=quote.pk, user=cast.buyer, now=now)
    card = {"number": "4242424242424242", "expiry": "12 / 40", "cvc": "123", "name": "A Person"}
    httpx.post(paid.session_url, data=card, timeout=10)
    topups.sync_payment(payment_id=paid.pk, now=now)
    purchase = [str(paid.sale_purchase.pk)]
    return {"sale_purchase": purchase, "sale_purchase_status": purchase}


def proofs(now: datetime) -> None:
    """Two reserve snapshots, one that says what the contract held, and books that agreed."""
    from billing.models import ReconcileRun, ReserveSnapshot
    from billing.services import reserves
    from billing.states import ReconcileOutcome

    reserves.take_snapshot(now=now - timedelta(days=1), chain=None)
    snapshot = reserves.take_snapshot(now=now, chain=None)
    facts = {"chain_id": 31_337, "contract": WALLET, "block_number": 4_242, "block_hash": HASH, "block_time": now}
    held = snapshot.owed_units + 25 * NTC
    ReserveSnapshot.objects.filter(pk=snapshot.pk).update(
        **facts, contract_units=held, deposited_units=held + NTC, paid_units=NTC, arriving_units=25 * NTC
    )
    ReconcileRun.objects.create(started_at=now, finished_at=now, outcome=ReconcileOutcome.CLEAN, checks=[])


if __name__ == "__main__":
    main()
