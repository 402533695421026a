"""A site that settles, for tests: owners who earn, and a chain that is either in memory or a real Anvil."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone
from eth_account import Account as Key

from billing.chain import deployments, keys
from billing.chain.deployments import Deployment
from billing.chain.fake import FakeChain
from billing.chain.fake_sale import FakeToken, FakeTokenSale, FakeVault
from billing.chain.interfaces import interface
from billing.chain.sale import TokenSale
from billing.chain.types import Call, Fees
from billing.models import Account, Claim, Epoch, Wallet
from billing.services import (
    accounts,
    chain_accounts,
    chain_events,
    claims,
    ledger,
    rounds,
    settlement,
    statements,
    wallets,
)
from interchain_site.core.models import User
from interchain_site.testing.anvil import Anvil

NTC = 10**9


@dataclass
class World:
    """One chain with a Settlement contract, and a clock."""

    chain: Any
    node: FakeChain | Anvil
    now: datetime = field(default_factory=timezone.now)
    made: int = 0

    @property
    def real(self) -> bool:
        return isinstance(self.node, Anvil)

    @property
    def deployment(self) -> Deployment:
        return deployments.load()

    def earn(self, owner: User, ntc: int) -> None:
        """Give an owner matured earnings."""
        self.made += 1
        lines = (
            ledger.Line(accounts.platform_account("desk_inventory"), -ntc * NTC),
            ledger.Line(accounts.user_account(owner.pk, accounts.EARNINGS_AVAILABLE), ntc * NTC),
        )
        ledger.post(postings=[ledger.Posting(f"earned:{self.made}", "test", lines, self.now)], now=self.now)

    def use(self, **document: object) -> None:
        """Record a usage statement."""
        self.made += 1
        draft = statements.StatementDraft(f"used:{self.made}", {"number": self.made, **document})
        statements.record_statements(drafts=[draft], now=self.now)

    def link(self, owner: User, address: str = "") -> Wallet:
        self.made += 1
        return wallets.link_confirmed(address=address or new_address(), by=owner, now=self.now)

    def round(self, *, later: int = 0) -> list[str]:
        """Let the chain worker do one round, `later` seconds after the last."""
        self.now += timedelta(seconds=later)
        return rounds.run(now=self.now, chain=self.chain)

    def settle(self) -> Epoch:
        """Close the open epoch and follow it until nothing moves any more."""
        epoch = settlement.close_epoch(now=self.now)
        assert epoch is not None
        for _ in range(4):
            assert self.round(later=1) == []
        epoch.refresh_from_db()
        return epoch

    def claim(self, wallet: Wallet) -> Claim:
        claim = claims.claim(wallet_id=wallet.pk, by=wallet.user, now=self.now)
        for _ in range(3):
            assert self.round(later=1) == []
        claim.refresh_from_db()
        return claim

    def claim_by_stranger(self, wallet: Wallet, epoch: Epoch, cumulative: int) -> None:
        """Somebody who is not the portal sends the claim."""
        from billing.settlement_queries import payout_proof, settled_epoch

        proof = payout_proof(epoch, address=wallet.address, cumulative=cumulative)
        self.as_account(
            3,
            self.deployment.contract.claim(
                epoch=settled_epoch(epoch), account=wallet.address, cumulative=cumulative, proof=proof
            ),
        )

    def as_account(self, index: int, call: Call) -> None:
        """Send a call from one of Anvil's other accounts (1 is the guardian)."""
        if not self.real:
            self.node.call_directly(call)
            return
        signer = keys.development_signer(index)
        nonce = self.chain.transaction_count(signer.address)
        signed = signer.sign(call, chain_id=31337, nonce=nonce, gas=500_000, fees=Fees(10**10, 10**9))
        self.chain.send(signed.raw)
        self.node.mine()
        receipt = self.chain.receipt(signed.hash)
        assert receipt is not None
        assert receipt.succeeded

    def automine(self, on: bool) -> None:
        if self.real:
            self.node.automine(on)
        else:
            self.node.automine = on

    def times_settled(self) -> list[int]:
        """Return the numbers of the epochs the contract has, one per mined transaction."""
        if not self.real:
            return sorted(self.node.settlement.epochs)
        last = self.chain.head().number
        logs = self.chain.logs(addresses=[self.deployment.settlement], first=0, last=last)
        events = [interface("Settlement").event(log) for log in logs]
        return [int(event.values["epoch"]) for event in events if event and event.name == "Settled"]

    def paid(self, wallet: Wallet) -> int:
        """Return the NTC base units the wallet really received."""
        if not self.real:
            return self.node.settlement.paid.get(wallet.address, 0)
        return self.deployment.token.balance(self.chain, wallet.address)


def balance(kind: str, owner: User | None = None) -> int:
    """Return an account's balance in base units; 0 when it was never used."""
    found = Account.objects.filter(user=owner, kind=kind, currency="NTC").values_list("balance", flat=True)
    return found.first() or 0


def new_address() -> str:
    return str(Key.create().address)


def fake_world(settings: Any) -> World:
    """Return a world with the chain in memory: contracts, round 1 open, and 1,000,000 NTC deposited for the desk."""
    settlement, sale, vault = new_address(), new_address(), new_address()
    chain = FakeChain(chain_id=settings.ETHEREUM_CHAIN_ID, address=settlement)
    rest = {name: new_address() for name in ("intercoin", "timelock", "stablecoin", "ether_feed", "ntc_feed")}
    token, dollar = FakeToken(rest["intercoin"]), FakeToken(rest["stablecoin"], "TUSD", 6, 0)
    chain.contracts.update({token.address: token, dollar.address: dollar})
    chain.contracts[sale] = FakeTokenSale(sale, settlement, token, dollar, proceeds=new_address())
    chain.contracts[vault] = FakeVault(vault, sale)
    deployment = Deployment(
        chain_id=settings.ETHEREUM_CHAIN_ID, settlement=settlement, sale=sale, vault=vault, block=1, **rest
    )
    deployments.record(deployment)
    world = World(chain, chain)
    chain.call_directly(TokenSale(sale).open_round(price_nano_usd=NTC // 2))
    desk = chain_accounts.desk_reference()
    chain.call_directly(TokenSale(sale).allocate(account=desk, units=1_000_000 * NTC, reference="0x" + "d" * 64))
    chain_events.watch(chain=chain, now=world.now)
    return world


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
