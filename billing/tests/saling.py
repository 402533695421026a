"""A site with a token sale, for tests: buyers, a card at the stand-in, and a chain in memory or a real Anvil."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from billing import queries
from billing.chain import deployments, following
from billing.chain.deployments import Deployment
from billing.chain.fake import FakeChain
from billing.chain.fake_sale import FakeToken, FakeTokenSale, FakeVault
from billing.models import Account, Entry, SalePurchase, SaleRound
from billing.services import cashier, chain_events, sale_purchases, sale_rounds, token_facts, topups
from billing.tests.settling import new_address
from interchain_site.core.models import User
from interchain_site.testing.stripe import StandIn

NTC = 10**9
PRICE = Decimal("0.10")
CARD = "4242424242424242"


@dataclass
class Shop:
    """One chain with the sale's contracts, a stand-in for Stripe, and a clock."""

    chain: Any
    stripe: StandIn
    now: datetime = field(default_factory=timezone.now)

    @property
    def deployment(self) -> Deployment:
        return deployments.load()

    @property
    def contract(self) -> FakeTokenSale:
        """The sale in memory."""
        found: FakeTokenSale = self.chain.contracts[self.deployment.sale]
        return found

    def turn(self, times: int = 1) -> None:
        """Let the chain worker do what concerns the sale."""
        for _ in range(times):
            self.now += timedelta(seconds=1)
            following.follow(chain=self.chain, now=self.now)
            chain_events.watch(chain=self.chain, now=self.now)
            sale_rounds.send_orders(chain=self.chain, now=self.now)
            cashier.run(chain=self.chain, now=self.now)
            sale_purchases.check_sent(chain=self.chain, now=self.now)
            sale_rounds.refresh(chain=self.chain, now=self.now)
            token_facts.refresh(chain=self.chain, now=self.now)

    def open(self, price: Decimal = PRICE) -> SaleRound:
        sale_rounds.order_open(price=price, by=None, now=self.now)
        self.turn(4)
        found = sale_purchases.open_round()
        assert found is not None
        return found

    def checkout(self, user: User, *, cents: int = 1000) -> SalePurchase:
        """Go as far as Stripe's page."""
        quote = sale_purchases.quote(user=user, cents=cents, now=self.now)
        return topups.start_checkout(quote_id=quote.pk, user=user, now=self.now).sale_purchase

    def pay(self, purchase: SalePurchase, card: str = CARD) -> SalePurchase:
        """Type the card; the webhook comes."""
        assert purchase.payment is not None
        assert self.stripe.pay(purchase.payment.session_url, card).status_code == 303
        return self.sync(purchase)

    def sync(self, purchase: SalePurchase) -> SalePurchase:
        assert purchase.payment_id is not None
        topups.sync_payment(payment_id=purchase.payment_id, now=self.now)
        return self.again(purchase)

    def buy(self, user: User, *, cents: int = 1000, card: str = CARD) -> SalePurchase:
        """Buy by card, all the way."""
        purchase = self.pay(self.checkout(user, cents=cents), card)
        self.turn(3)
        return self.again(purchase)

    def charge_of(self, purchase: SalePurchase) -> str:
        assert purchase.payment is not None
        purchase.payment.refresh_from_db()
        return str(self.stripe.get(f"payment_intents/{purchase.payment.payment_intent_id}")["latest_charge"])

    @staticmethod
    def again(purchase: SalePurchase) -> SalePurchase:
        return SalePurchase.objects.select_related("payment", "user", "sale_round").get(pk=purchase.pk)


def fake_shop(settings: Any, stripe: StandIn) -> Shop:
    """Return a shop whose chain is in memory, with no round open yet."""
    settlement, sale, vault = new_address(), new_address(), new_address()
    ntc = FakeToken(new_address(), balances={sale: 20_000_000 * NTC, vault: 5_000_000 * NTC})
    dollar = FakeToken(new_address(), ticker="tUSD", places=6)
    chain = FakeChain(chain_id=settings.ETHEREUM_CHAIN_ID, address=settlement)
    chain.contracts[sale] = FakeTokenSale(sale, settlement, ntc, dollar, proceeds=new_address())
    chain.contracts[vault] = FakeVault(vault, sale)
    chain.contracts[ntc.address], chain.contracts[dollar.address] = ntc, dollar
    deployments.record(
        Deployment(
            chain_id=settings.ETHEREUM_CHAIN_ID,
            intercoin=ntc.address,
            settlement=settlement,
            sale=sale,
            vault=vault,
            timelock=new_address(),
            stablecoin=dollar.address,
            ether_feed=new_address(),
            ntc_feed=new_address(),
            block=1,
        )
    )
    return Shop(chain, stripe)


def spendable(user: User) -> int:
    """Return what a person can spend, in base units."""
    return queries.available_units(user.pk)


def dollars(kind: str) -> int:
    """Return the balance of one of the platform's dollar accounts, in cents."""
    return queries.platform_balance(kind, "USD")


def ledger_holds(kind: str) -> int:
    """Return the sum of everybody's accounts of a kind, in base units of NTC."""
    found = Account.objects.filter(kind=kind, currency="NTC").values_list("balance", flat=True)
    return sum(found)


def books_balance() -> None:
    """Every currency sums to zero, and the escrow mirrors what the ledger owes."""
    by_currency: dict[str, int] = {}
    for entry in Entry.objects.select_related("account"):
        by_currency[entry.account.currency] = by_currency.get(entry.account.currency, 0) + entry.amount
    assert set(by_currency.values()) <= {0}


# Where a process may die: between any two numbered steps of `cashier`, and inside them.
STEPS = {
    "1 stripe asked again": ("billing.services.cashier.topups.sync_payment", "before"),
    "2 before the contract is asked": ("billing.services.cashier.transactions.plan", "before"),
    "2 after the contract was asked": ("billing.services.cashier.transactions.plan", "after"),
    "3 before it is stored": ("billing.services.cashier.transactions.build", "before"),
    "3 in the midst of storing": ("billing.services.cashier.transactions.build", "after"),
    "3 just before the commit": ("billing.services.cashier.move", "after"),
    "4 before it is sent": ("billing.services.cashier.transactions.send", "before"),
    "4 after it is sent": ("billing.services.cashier.transactions.send", "after"),
    "6 before it is delivered": ("billing.services.sale_purchases.move", "before"),
    "6 in the midst of delivering": ("billing.services.sale_purchases.move", "after"),
    "6 after the ledger": ("billing.services.sale_purchases.payment_postings.deliver", "after"),
}


class Killed(BaseException):
    """The process is gone: no `except Exception` may see it."""


def kill_once(monkeypatch: pytest.MonkeyPatch, place: str, when: str) -> None:
    """Have the process die once, before or after the call at this place."""
    module, name = place.rsplit(".", 1)
    parts = module.split(".")
    owner: Any = None
    for length in range(len(parts), 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            owner = getattr(owner, part)
        break
    real, calls = getattr(owner, name), list[str]()

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) > 1:
            return real(*args, **kwargs)
        if when == "before":
            raise Killed
        real(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(owner, name, wrapped)


BACK = {
    "A before": ("billing.services.cashier.move", "before"),
    "A after": ("billing.services.cashier.begin_paying_back", "after"),
    "B before": ("billing.services.cashier.topups.refund_payment", "before"),
    "B after": ("billing.services.topups.gateway.refund", "after"),
    "C before the mail": ("billing.services.cashier.receipts.tell_paid_back", "before"),
    "C after the mail": ("billing.services.cashier.receipts.tell_paid_back", "after"),
}
