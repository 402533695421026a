"""Buying in a round from a browser wallet: what it costs, and the next thing the wallet has to do.

The server encodes every call and writes every document; `static/js/wallet.js` hands them to the wallet and brings back what
it answers (see its header). The steps:

- Ether: one transaction.
- Stablecoin with a permit: a signature, then one transaction.
- Stablecoin with an approval: a transaction that allows exactly the cost, then the purchase.

The last answer is the purchase's hash. Whether it bought anything is the chain's to say: `sale_purchases.book`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings

from billing import money
from billing.chain import client, deployments, permits
from billing.chain.contracts import Intercoin
from billing.chain.sale import TokenSale
from billing.chain.types import Call
from billing.errors import SaleRefused, SaleSoldOut
from billing.models import SaleAsset, SalePurchase, SaleRound
from billing.services import chain_accounts, sale_gates, sale_purchases, token_facts
from billing.services.token_facts import Facts
from interchain_site.core.errors import Invalid
from interchain_site.core.models import User

BASIS_POINTS = 10_000
PERMIT_SECONDS = 3600
WEI = 10**18


@dataclass(frozen=True)
class Offer:
    """What a purchase from a wallet would cost now.

    Attributes:
        cost: wei, or base units of the stablecoin: exact for the stablecoin, today's quote for ether.
        least_units: the fewest NTC the buyer agrees to; below it nothing is bought.
    """

    sale_round: SaleRound
    asset: str
    units: int
    cost: int
    least_units: int
    decimals: int
    symbol: str

    @property
    def cost_words(self) -> str:
        return amount_words(self.cost, self.decimals, self.symbol)


@dataclass(frozen=True)
class Wish:
    """What a buyer chose on the sale page."""

    user: User
    asset: str
    units: int
    slippage_basis_points: int
    to_portal: bool
    by_permit: bool
    address: str


def offer(*, asset: str, units: int, slippage_basis_points: int) -> Offer:
    """Return the cost of `units` in the open round, from what the chain worker read last.

    Raises:
        SaleRefused: no round is open, the sale is paused, or the ether price is not to be believed just now.
        SaleSoldOut: more than the round has left.
    """
    sale_round, facts = sale_purchases.open_round(), token_facts.current()
    if sale_round is None or facts is None or not sale_round.price_nano_usd:
        raise SaleRefused("No round is open now. The sale page says what the next one waits for.")
    if facts.sale_paused:
        raise SaleRefused("The sale contract is paused. Nothing can be bought until it goes on.")
    if units > sale_round.unsold_units:
        raise SaleSoldOut(f"This round has {money.format_ntc(sale_round.unsold_units)} left to sell. Ask for less.")
    if asset == SaleAsset.STABLECOIN:
        cost = stablecoin_cost(units, sale_round.price_nano_usd, facts.stablecoin_decimals)
        return Offer(sale_round, asset, units, cost, units, facts.stablecoin_decimals, facts.stablecoin_symbol)
    if not facts.wei_cost:
        raise SaleRefused("There is no ether price that can be believed just now. Pay with the stablecoin, or later.")
    cost = -(-facts.wei_cost * units // money.NANO)
    least = units * (BASIS_POINTS - slippage_basis_points) // BASIS_POINTS
    return Offer(sale_round, asset, units, cost, max(1, least), 18, "ETH")


def stablecoin_cost(units: int, price_nano_usd: int, decimals: int) -> int:
    """Return what the contract asks for, in the stablecoin's base units: rounded up, as `quoteStablecoin` does."""
    unit: int = 10**decimals
    return -(-units * price_nano_usd * unit // money.NANO**2)


def next_step(*, wish: Wish, answers: dict[str, str], kept: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return what the wallet has to do next, as `static/js/wallet.js` understands it.

    Args:
        answers: what the wallet answered so far: `signature`, `approval`, `hash`.
        kept: survives between the steps of one purchase (the session): the permit to sign, the cost and the round.

    Raises:
        SaleRefused, SaleSoldOut: the sale, or one of its rules, says no.
        Invalid: an answer that cannot be right.
        ChainUnavailable, NoPermit: only for a permit, whose number the token itself must be asked for.
    """
    if answers.get("hash"):
        return _done(wish, kept, answers["hash"], now)
    found = offer(asset=wish.asset, units=wish.units, slippage_basis_points=wish.slippage_basis_points)
    kept |= {"cost": str(found.cost), "round": found.sale_round.number}
    sale_gates.check(user=wish.user, sale_round=found.sale_round, units=wish.units)
    account = chain_accounts.reference_of(user=wish.user) if wish.to_portal else ""
    sale = TokenSale(deployments.load().sale)
    if wish.asset == SaleAsset.ETHER:
        call = sale.buy_with_ether(min_units=found.least_units, account=account)
        least = money.format_ntc(found.least_units)
        explain = f"Confirm in your wallet: {found.cost_words} for at least {least}. Gas comes on top."
        return _send(call, "hash", explain, value=found.cost)
    if wish.by_permit:
        return _by_permit(wish, found, answers, kept, account, now)
    if not answers.get("approval"):
        allowed = Intercoin(deployments.load().stablecoin).approve(spender=sale.address, amount=found.cost)
        return _send(allowed, "approval", f"Step 1 of 2: allow the sale to take {found.cost_words}.", wait=True)
    call = sale.buy_with_stablecoin(units=wish.units, max_cost=found.cost, account=account)
    return _send(call, "hash", f"Step 2 of 2: buy {money.format_ntc(wish.units)} for {found.cost_words}.")


def _by_permit(
    wish: Wish, found: Offer, answers: dict[str, str], kept: dict[str, Any], account: str, now: datetime
) -> dict[str, Any]:
    deployment = deployments.load()
    if not answers.get("signature"):
        document = permits.document(
            chain=client.connect(),
            token=deployment.stablecoin,
            owner=wish.address,
            spender=deployment.sale,
            value=found.cost,
            deadline=int(now.timestamp()) + PERMIT_SECONDS,
            chain_id=settings.ETHEREUM_CHAIN_ID,
        )
        kept["permit"] = document
        explain = f"Step 1 of 2: sign that the sale may take {found.cost_words}. It costs nothing."
        return {"do": "sign_typed_data", "document": document, "keep": "signature", "explain": explain}
    document = kept.get("permit") or {}
    said = document.get("message", {})
    if (said.get("owner"), said.get("value"), said.get("spender")) != (wish.address, str(found.cost), deployment.sale):
        raise Invalid("The amount or the wallet changed meanwhile. Start again.")
    call = TokenSale(deployment.sale).buy_with_permit(
        units=wish.units,
        max_cost=found.cost,
        account=account,
        deadline=int(said["deadline"]),
        signature=permits.read_signature(document, answers["signature"]),
    )
    return _send(call, "hash", f"Step 2 of 2: buy {money.format_ntc(wish.units)} for {found.cost_words}.")


def _done(wish: Wish, kept: dict[str, Any], transaction_hash: str, now: datetime) -> dict[str, Any]:
    """Remember what was sent. Nothing is checked any more: the wallet may have sold the round out by it."""
    purchase: SalePurchase = sale_purchases.note_sent(
        user=wish.user,
        asset=wish.asset,
        units=wish.units,
        paid=int(kept.get("cost", 0)),
        sale_round_id=int(kept.get("round", 0)),
        account=chain_accounts.reference_of(user=wish.user) if wish.to_portal else "",
        wallet=wish.address,
        transaction_hash=transaction_hash,
        now=now,
    )
    return {"do": "go", "url": purchase.get_absolute_url(), "explain": "Sent."}


def _send(call: Call, keep: str, explain: str, *, value: int = 0, wait: bool = False) -> dict[str, Any]:
    encoded = {"to": call.to, "data": "0x" + call.data.hex(), "value": hex(value)}
    return {"do": "send", "call": encoded, "keep": keep, "wait": wait, "explain": explain}


def amount_words(amount: int, decimals: int, symbol: str) -> str:
    """Return an amount of a token as people read it: exact, at least two decimals: `12.50 USDC`."""
    whole, part = divmod(amount, 10**decimals)
    digits = f"{part:0{decimals}d}".rstrip("0") if decimals else ""
    return f"{whole:,}.{digits.ljust(2, '0')} {symbol}".strip()


def paid_words(purchase: SalePurchase, facts: Facts | None) -> str:
    """Return what a purchase cost, in what it was paid with."""
    paid = int(purchase.paid)
    if purchase.asset == SaleAsset.CARD:
        return money.format_usd_cents(paid)
    if purchase.asset == SaleAsset.ETHER:
        return amount_words(paid, 18, "ETH")
    return amount_words(paid, facts.stablecoin_decimals if facts else 6, facts.stablecoin_symbol if facts else "")
