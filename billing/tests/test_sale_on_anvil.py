"""The sale through the real contracts: by card, with a permit, with an approval, with ether; and a round that sells out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from billing.chain import client, keys
from billing.chain.interfaces import interface
from billing.chain.sale import TokenSale
from billing.errors import SaleSoldOut
from billing.models import SalePurchase
from billing.services import contracts, sale_purchases, sale_rounds, sale_wallets, token_facts, wallets
from billing.tests.saling import NTC, STEPS, Killed, Shop, books_balance, dollars, kill_once, ledger_holds, spendable
from interchain_site.core.models import User
from interchain_site.testing.anvil import Anvil

pytestmark = [pytest.mark.anvil, pytest.mark.verification]
PERSON, WHALE = 7, 8  # Anvil's accounts of people


class Browser:
    """A wallet in a browser: follows the server's steps with one of Anvil's unlocked accounts, as `wallet.js` does."""

    def __init__(self, node: Anvil, index: int) -> None:
        self.node, self.address = node, keys.development_signer(index).address

    def follow(self, shop: Shop, wish: sale_wallets.Wish) -> SalePurchase:
        answers: dict[str, str] = {}
        kept: dict[str, Any] = {}
        for _ in range(4):
            step = sale_wallets.next_step(wish=wish, answers=answers, kept=kept, now=shop.now)
            if step["do"] == "go":
                return SalePurchase.objects.get(pk=step["url"].rstrip("/").rsplit("/", 1)[-1])
            answers[step["keep"]] = self.answer(step)
        raise AssertionError(f"Too many steps: {answers}")

    def answer(self, step: dict[str, Any]) -> str:
        if step["do"] == "sign_typed_data":
            return str(self.node.ask("eth_signTypedData_v4", self.address, step["document"]))
        sent = str(self.node.ask("eth_sendTransaction", {"from": self.address, **step["call"]}))
        assert self.node.ask("eth_getTransactionReceipt", sent)["status"] == "0x1"
        return sent

    def send(self, to: str, data: bytes, value: int = 0) -> str:
        call = {"to": to, "data": "0x" + data.hex(), "value": hex(value)}
        return self.answer({"do": "send", "call": call})


@pytest.fixture
def shop(db, settings, chain_settings, _anvil, stripe) -> Shop:
    settings.ETHEREUM_RPC_URL = _anvil.url
    settings.DESK_MAX_CENTS = 10**12
    _anvil.automine(True)
    found = Shop(client.RpcChain(_anvil.url), stripe)
    contracts.deploy(chain=found.chain, now=found.now)
    found.turn(2)
    return found


@pytest.fixture
def ethereum(shop, _anvil) -> Browser:
    found = Browser(_anvil, PERSON)
    mint = interface("TestDollar").call(shop.deployment.stablecoin, "mint", found.address, 10**12)
    found.send(shop.deployment.stablecoin, mint.data)
    return found


def wish(user: User, ethereum: Browser, asset: str, *, ntc: int = 100, portal: bool = True, permit: bool = True) -> Any:
    return sale_wallets.Wish(
        user=user,
        asset=asset,
        units=ntc * NTC,
        slippage_basis_points=100,
        to_portal=portal,
        by_permit=permit,
        address=ethereum.address,
    )


def ntc_of(shop: Shop, address: str) -> int:
    return shop.deployment.token.balance(shop.chain, address)


def test_round_1_is_open_from_the_start_and_its_facts_are_read(shop):
    assert sale_purchases.open_round().number == 1
    facts = token_facts.current()
    assert facts.supply == 25_000_000 * NTC
    assert facts.vault_balance == 5_000_000 * NTC
    assert (facts.stablecoin_symbol, facts.stablecoin_decimals) == ("TUSD", 6)
    sale, price = TokenSale(shop.deployment.sale), sale_purchases.open_round().price_nano_usd
    for units in (1, NTC - 1, 12_345_678_901, 9_000_000 * NTC):
        assert sale_wallets.stablecoin_cost(units, price, 6) == sale.quote_stablecoin(shop.chain, units)


def test_card_allocates_and_credits(shop, cast):
    before = shop.deployment.contract.deposited(shop.chain, "0x" + "00" * 32)
    purchase = shop.buy(cast.buyer, cents=5_000)
    assert purchase.state == "delivered"
    assert spendable(cast.buyer) == purchase.units
    assert shop.deployment.contract.deposited(shop.chain, purchase.account) == purchase.units
    assert dollars("sale_proceeds_usd") == 5_000
    assert TokenSale(shop.deployment.sale).reference_used(shop.chain, purchase.reference)
    assert before == 0


@pytest.mark.parametrize("permit", [True, False], ids=["permit", "approval"])
def test_stablecoin_to_the_balance(shop, cast, ethereum, permit):
    purchase = ethereum.follow(shop, wish(cast.buyer, ethereum, "stablecoin", permit=permit))
    assert purchase.state == "sent"
    shop.turn(2)
    purchase = shop.again(purchase)
    assert (purchase.state, purchase.units, spendable(cast.buyer)) == ("delivered", 100 * NTC, 100 * NTC)
    price = sale_purchases.open_round().price_nano_usd
    assert int(purchase.paid) == 100 * price // 1000  # six decimals


def test_ether_to_the_wallet(shop, cast, ethereum):
    wallets.link_confirmed(address=ethereum.address, by=cast.buyer, now=shop.now)
    before = ntc_of(shop, ethereum.address)
    purchase = ethereum.follow(shop, wish(cast.buyer, ethereum, "ether", portal=False))
    shop.turn(2)
    purchase = shop.again(purchase)
    got = ntc_of(shop, ethereum.address) - before
    assert (purchase.state, purchase.units, spendable(cast.buyer)) == ("delivered", got, 0)
    assert 99 * NTC <= got <= 101 * NTC


def test_ether_is_not_taken_when_its_price_fell_too_far(shop, cast, ethereum):
    found = wish(cast.buyer, ethereum, "ether")
    step = sale_wallets.next_step(wish=found, answers={}, kept={}, now=shop.now)
    fallen = interface("TestFeed").call(shop.deployment.ether_feed, "set", 2_900 * 10**8)
    ethereum.send(shop.deployment.ether_feed, fallen.data)
    with pytest.raises(AssertionError, match="revert"):
        ethereum.node.ask("eth_call", {"from": ethereum.address, **step["call"]}, "latest")


def test_a_round_that_sells_out_between_payment_and_allocation(shop, cast, ethereum):
    purchase = shop.pay(shop.checkout(cast.buyer, cents=5_000))
    whale = Browser(ethereum.node, WHALE)
    sale = TokenSale(shop.deployment.sale)
    left = sale.left(shop.chain)
    cost = sale.quote_stablecoin(shop.chain, left)
    stablecoin = shop.deployment.stablecoin
    whale.send(stablecoin, interface("TestDollar").call(stablecoin, "mint", whale.address, cost).data)
    whale.send(stablecoin, interface("TestDollar").call(stablecoin, "approve", sale.address, cost).data)
    whale.send(sale.address, sale.buy_with_stablecoin(units=left, max_cost=cost).data)
    shop.turn(4)
    purchase = shop.again(purchase)
    assert (purchase.state, purchase.payment.refunded_cents) == ("refunded", 5_000)
    assert "sold out" in purchase.note
    assert (spendable(cast.buyer), dollars("sale_proceeds_usd"), dollars("stripe_clearing")) == (0, 0, 0)
    assert not sale.reference_used(shop.chain, purchase.reference)
    with pytest.raises(SaleSoldOut):
        shop.checkout(cast.stranger)


def chain_equals_ledger(shop: Shop) -> None:
    """What the contract holds for us is what the ledger says it holds, to the last unit."""
    assert shop.deployment.token.balance(shop.chain, shop.deployment.settlement) == -ledger_holds("escrow")
    books_balance()


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_every_step_allocates_once(shop, cast, monkeypatch, step):
    purchase = shop.pay(shop.checkout(cast.buyer, cents=5_000))
    sold = TokenSale(shop.deployment.sale).round(shop.chain, 1).sold
    kill_once(monkeypatch, *STEPS[step])
    with pytest.raises(Killed):
        shop.turn(4)
    shop.turn(4)
    assert shop.again(purchase).state == "delivered"
    assert spendable(cast.buyer) == purchase.units
    assert TokenSale(shop.deployment.sale).round(shop.chain, 1).sold == sold + purchase.units
    chain_equals_ledger(shop)


@pytest.mark.parametrize(("depth", "drop"), [(1, True), (1, False), (3, True), (16, False), (64, True)])
def test_a_reorganisation_of_any_depth_delivers_once(shop, cast, settings, depth, drop):
    """Delivered, then the chain forgets the block: undone, and mined again from the stored bytes."""
    shop.turn()
    node = Anvil(settings.ETHEREUM_RPC_URL)
    purchase = shop.buy(cast.buyer, cents=5_000)
    node.mine(depth - 1)
    shop.turn()
    again = [] if drop else _transactions_of(node, depth)
    node.ask("anvil_reorg", depth, again)
    for _ in range(6):
        shop.now += timedelta(seconds=70)
        shop.turn()
        node.mine()
    assert shop.again(purchase).state == "delivered"
    assert spendable(cast.buyer) == purchase.units
    chain_equals_ledger(shop)


def _transactions_of(node: Anvil, depth: int) -> list[Any]:
    """Return our transactions of the newest blocks, to be put into the first block that replaces them."""
    head = int(node.ask("eth_blockNumber"), 16)
    blocks = [node.ask("eth_getBlockByNumber", hex(number), False) for number in range(head - depth + 1, head + 1)]
    hashes = [hash_ for block in blocks for hash_ in block["transactions"]]
    return [[node.ask("eth_getRawTransactionByHash", hash_), 0] for hash_ in hashes]


def test_staff_close_carry_and_open_the_next(shop, cast):
    from decimal import Decimal

    sale_rounds.order_close(number=1, by=cast.staff, now=shop.now)
    shop.turn(3)
    sale_rounds.order_unsold(number=1, decision="carry", reason="For round 2.", by=cast.staff, now=shop.now)
    shop.turn(3)
    second = shop.open(Decimal("1.5"))
    assert (second.number, second.price) == (2, Decimal("1.5"))
    assert second.offered_units == 12_000_000 * NTC
