"""Push or pull: is it worth the gas that we send a payout, or should its owner claim it?

Pushing is a transaction of ours (`claimMany`, shared by everybody in the batch). It is worth it up to `PAYOUT_PUSH_BASIS_POINTS`
of what it pays. The reason is said in words, on the owner's page and in the admin.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings

from billing import money, queries
from billing.chain import deployments, gas, price_feed
from billing.chain.types import Chain
from billing.errors import NoRate
from billing.models import GasQuote

WEI_PER_ETHER = 10**18
FRESH = timedelta(hours=1)
STALE = timedelta(days=1)  # feeds of ether answer at least once an hour; older than this is out of order
BATCH_LIKELY = 10  # payees we count on sharing a batch with, when nobody knows how many there will be


@dataclass(frozen=True)
class Plan:
    """What to do with one payee's NTC.

    Attributes:
        push: we send it; else its owner claims it.
        reason: why, in words for that owner.
        cost_nano_usd: what our gas for it costs; None when nobody can tell.
        worth_from_units: from how many base units on we would send it; None when nobody can tell.
    """

    push: bool
    reason: str
    cost_nano_usd: int | None = None
    worth_from_units: int | None = None


@dataclass(frozen=True)
class Payee:
    """Whom a plan is for: how much, in a tree of how many leaves, in a batch of how many, and whether for the first time."""

    units: int
    leaves: int
    payees: int = BATCH_LIKELY
    first: bool = False

    def pushed_gas(self) -> int:
        """Return the gas of this payee's share of a `claimMany`."""
        alone = gas.claim_many(self.leaves, first=int(self.first), again=int(not self.first))
        return alone - gas.CLAIM_MANY + -(-gas.CLAIM_MANY // max(self.payees, 1))


def observe(*, chain: Chain, now: datetime) -> GasQuote:
    """Write down what gas and ether cost now; the chain worker calls it, pages read the row.

    Raises:
        ChainUnavailable, NotDeployed: the row stays as it was.
    """
    fees = chain.fees()
    expected = (fees.max_fee + fees.priority_fee) // 2  # `fees` bears twice the base fee; what is paid is about half
    ether = _ether(chain, now)
    facts = {"wei_per_gas": expected, "nano_usd_per_ether": ether, "taken_at": now}
    return GasQuote.objects.update_or_create(pk=1, defaults=facts)[0]


def plan(*, units: int, leaves: int, payees: int = BATCH_LIKELY, first_payment: bool = False, now: datetime) -> Plan:
    """Return whether we send `units` (base units) to a payee, and why.

    Args:
        leaves: wallets in the payout tree.
        payees: how many share the batch.
        first_payment: the wallet was never paid, which costs more gas.
    """
    try:
        rate: Decimal | None = queries.rate_in_force(now)
    except NoRate:
        rate = None
    payee = Payee(units, leaves, payees, first_payment)
    return decide(GasQuote.objects.first(), payee, rate=rate, now=now)


def decide(quote: GasQuote | None, payee: Payee, *, rate: Decimal | None, now: datetime) -> Plan:
    """The rule itself, without reading anything. Where a price is missing we send: the owner should not wait for that."""
    if quote is None or quote.nano_usd_per_ether is None or rate is None or now - quote.taken_at > FRESH:
        return Plan(True, "Interchain sends it and pays the gas.")
    cost = _nano_usd(quote, payee.pushed_gas())
    worth = money.nano_usd_for_ntc_units(payee.units, rate)
    limit = settings.PAYOUT_PUSH_BASIS_POINTS
    needed, _ = money.ntc_units_for_nano_usd(-(-cost * money.BASIS_POINTS // limit), rate)
    numbers = f"Its gas costs about {_dollars(cost)}, it pays about {_dollars(worth)}"
    if cost * money.BASIS_POINTS <= worth * limit:
        return Plan(True, f"Interchain sends it and pays the gas. {numbers}.", cost, needed)
    percent = f"{Decimal(limit) / 100:f}".rstrip("0").rstrip(".")
    own = _dollars(_nano_usd(quote, gas.claim(payee.leaves, first=payee.first)))
    reason = (
        f"{numbers}, and Interchain pays for gas up to {percent} %: it sends it from about {_ntc(needed)} on. Until then it "
        f"stays yours here. Claiming it from your own wallet costs you about {own}."
    )
    return Plan(False, reason, cost, needed)


def _ether(chain: Chain, now: datetime) -> int | None:
    """Return the price of one ether in nano-dollars, or None where no feed says it freshly enough."""
    feed = deployments.load().ether_feed
    price = price_feed.read(chain=chain, feed=feed) if feed else None
    if price is None or now.timestamp() - price.updated_at > STALE.total_seconds():
        return None
    return price.nano_usd


def _nano_usd(quote: GasQuote, gas_units: int) -> int:
    """Rounded up: better a little too dear."""
    wei = gas_units * quote.wei_per_gas
    return -(-wei * (quote.nano_usd_per_ether or 0) // WEI_PER_ETHER)


def _dollars(nano: int) -> str:
    """Two decimals, as people read amounts they only compare."""
    cents = money.round_units(Decimal(nano) * money.CENTS / money.NANO)
    return money.format_usd_cents(cents) if cents or not nano else "less than $0.01"


def _ntc(units: int) -> str:
    """Whole NTC, rounded up."""
    return f"{-(-units // money.NANO):,} NTC"
