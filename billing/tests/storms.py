"""A chain in a storm, for tests: people deposit, earn, settle and claim while blocks vanish, and in the end it must add up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db.models import Max, Sum

from billing.chain import keys
from billing.chain.contracts import Intercoin
from billing.chain.interfaces import interface
from billing.chain.keccak import keccak
from billing.chain.states import ClaimState, EpochState, EventState
from billing.chain.types import Call, Fees
from billing.models import (
    Account,
    ChainAccount,
    ChainAttempt,
    ChainEvent,
    ChainTransaction,
    Claim,
    Entry,
    Epoch,
    PayoutLeaf,
    Wallet,
)
from billing.services import chain_accounts
from billing.tests.settling import NTC, World
from interchain_site.core.models import User

STRANGER = 7  # Anvil's account of somebody with NTC in their own wallet
GAS = 400_000


@dataclass
class Storm:
    """A world on a real node, and somebody outside who deposits."""

    world: World
    raws: list[bytes] = field(default_factory=list)
    given: int = 0

    def prepare(self, ntc: int = 1_000) -> None:
        """Give the stranger NTC, and have them approve the Settlement contract."""
        where = self.world.deployment
        stranger, self.given = keys.development_signer(STRANGER).address, self.given + 1
        reference = bytes([self.given]) * 32
        self.send(keys.CASHIER, interface("TokenSale").call(where.sale, "allocateTo", stranger, ntc * NTC, reference))
        self.send(STRANGER, Intercoin(where.intercoin).approve(spender=where.settlement, amount=ntc * NTC))

    def deposit(self, user: User, ntc: int) -> None:
        reference = chain_accounts.reference_of(user=user)
        self.send(STRANGER, self.world.deployment.contract.deposit(reference=reference, amount=ntc * NTC))

    def send(self, index: int, call: Call) -> bytes:
        """Send a call from one of Anvil's accounts, past the proxy."""
        signer, node = keys.development_signer(index), self.world.node
        nonce = int(node.ask("eth_getTransactionCount", signer.address, "latest"), 16)
        fees = Fees(10**11, 10**9)
        signed = signer.sign(call, chain_id=31337, nonce=nonce, gas=GAS, fees=fees)
        node.ask("eth_sendRawTransaction", "0x" + signed.raw.hex())
        self.raws.append(signed.raw)
        return signed.raw

    def reorganise(self, depth: int, *, again: bool = False) -> None:
        """Replace the newest blocks by as many others. What was in them is dropped, or all of it mined in the first new one."""
        node, known = self.world.node, [*ChainAttempt.objects.order_by("pk").values_list("raw", flat=True), *self.raws]
        fork = int(node.ask("eth_blockNumber"), 16) - depth
        gone = [raw for raw in map(bytes, known) if again and self._block_of(raw) > fork]
        node.ask("anvil_reorg", depth, [["0x" + raw.hex(), 0] for raw in sorted(gone, key=self._block_of)])

    def _block_of(self, raw: bytes) -> int:
        receipt = self.world.node.ask("eth_getTransactionReceipt", "0x" + keccak(raw).hex())
        return int(receipt["blockNumber"], 16) if receipt else 0

    def calm(self, rounds: int = 15, *, at_least: int = 2) -> None:
        """Let blocks pass and the worker work until nothing moves any more."""
        troubles: list[str] = []
        for done in range(1, rounds + 1):
            self.world.node.mine(3)
            troubles = self.world.round(later=61)
            if done >= at_least and not troubles and _at_rest():
                return
        assert troubles == []


def _at_rest() -> bool:
    under_way = Epoch.objects.exclude(state__in=[EpochState.OPEN, EpochState.FINAL, EpochState.VETOED])
    claimed = Claim.objects.filter(state__in=[ClaimState.REQUESTED, ClaimState.SENT])
    waiting = ChainEvent.objects.filter(state__in=[EventState.SEEN, EventState.DOUBTED])
    return not any(rows.exists() for rows in (under_way, claimed, waiting, ChainTransaction.objects.outstanding()))


def adds_up(world: World) -> None:
    """Assert that chain and ledger have the same totals, nobody was paid twice and nobody missed."""
    contract, chain = world.deployment.contract, world.chain
    deposited, paid = contract.totals(chain)
    assert _balance("escrow") == paid - deposited
    assert Intercoin(world.deployment.intercoin).balance(chain, contract.address) == deposited - paid
    claims = Claim.objects.filter(state=ClaimState.FINAL).values_list("wallet_id").annotate(Max("cumulative_units"))
    claimed = dict(claims)
    for wallet in Wallet.objects.all():
        assert contract.paid(chain, wallet.address) == claimed.get(wallet.pk, 0) == world.paid(wallet), wallet
    leaves = PayoutLeaf.objects.filter(withdrawn_from=None).values_list("wallet_id").annotate(Max("cumulative_units"))
    assert _balance("settled") == sum(units for _, units in leaves) - paid
    for account in ChainAccount.objects.all():
        assert contract.deposited(chain, account.reference) == _credited(account), account
    assert world.times_settled() == sorted(set(world.times_settled()))
    assert not ChainTransaction.objects.outstanding().exists()
    assert not ChainEvent.objects.filter(state__in=[EventState.SEEN, EventState.DOUBTED]).exists()


def _balance(kind: str) -> int:
    return Account.objects.filter(kind=kind, currency="NTC").aggregate(sum=Sum("balance"))["sum"] or 0


def _credited(account: ChainAccount) -> int:
    """Return what the ledger credited for an account's deposits, less what it took back."""
    kinds = ("deposited", "deposit_vanished")
    entries: Any = Entry.objects.filter(transaction__kind__in=kinds)
    if account.user_id:
        entries = entries.filter(account__user_id=account.user_id)
    else:
        entries = entries.filter(account__kind="desk_inventory")
    return entries.aggregate(sum=Sum("amount"))["sum"] or 0
