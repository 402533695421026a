"""Deploy the contracts, once; in the embedded default also escrow the desk's NTC and write it into the ledger."""

from __future__ import annotations

import time
from datetime import datetime

from django.conf import settings
from django.db.models import Max
from django.utils import timezone

from billing.chain import contracts, deployments, keys, transactions
from billing.chain.deployments import Deployment
from billing.chain.errors import ChainUnavailable, ForeignContracts, Reverted
from billing.chain.states import EpochState, TransactionState
from billing.chain.types import Call, Chain
from billing.models import ChainTransaction, Epoch
from billing.money import NANO
from billing.services import accounts, ledger
from interchain_site.core import audit
from interchain_site.core.errors import DomainError

WAIT_SECONDS = 120
POLL_MILLISECONDS = 200
ON_CHAIN = (TransactionState.MINED, TransactionState.FINAL)
DEPLOYED_ONCE = (
    "ETHEREUM_ADMIN_ADDRESS",
    "ETHEREUM_GUARDIAN_ADDRESS",
    "ETHEREUM_SALE_HOLDER_ADDRESS",
    "ETHEREUM_FOUNDERS_HOLDER_ADDRESS",
)


class AddressesMissing(DomainError):
    code = "addresses_missing"


def deploy(*, chain: Chain, now: datetime) -> Deployment:
    """Make sure the contracts are there, and say where; what is done already is not done again.

    1. Recorded contracts with code are kept.
    2. Else Intercoin, then Settlement, are deployed by stored transactions: after a crash, or when a local chain lost its
       blocks, the same bytes give the same addresses.
    3. The file is written.
    4. Embedded default only: the desk's NTC are deposited, and the ledger told (`escrow` −, `desk_inventory` +).

    Raises:
        AddressesMissing: production settings name no admin, guardian or holders.
        ForeignContracts: the recorded ones belong to another database.
        ChainError: see `billing.chain.errors`; run it again after mending the cause.
    """
    deployment = _standing(chain) or _deployed(chain, now)
    deployments.record(deployment)
    if keys.embedded():
        _stock_desk(deployment, chain, now)
    return deployment


def _standing(chain: Chain) -> Deployment | None:
    """Return the recorded contracts if they are on the chain and ours."""
    recorded = deployments.recorded()
    if recorded is None or not (chain.has_code(recorded.intercoin) and chain.has_code(recorded.settlement)):
        return None
    if not is_foreign(recorded, chain):
        return recorded
    if keys.embedded():
        return None  # the database was emptied and the local chain was not: begin anew on it
    raise ForeignContracts


def is_foreign(deployment: Deployment, chain: Chain) -> bool:
    """Return whether the contract has settled epochs this database does not know."""
    ours = Epoch.objects.exclude(state=EpochState.OPEN).aggregate(newest=Max("sequence"))["newest"] or 0
    return deployment.contract.next_epoch(chain) - 1 > ours


def _deployed(chain: Chain, now: datetime) -> Deployment:
    admin, guardian, sale_holder, founders_holder = _addresses()
    operator = keys.operator().address
    creation = contracts.interface("Intercoin").creation(sale_holder, founders_holder)
    token = _done(key="deploy:Intercoin", call=creation, chain=chain, now=now)
    creation = contracts.interface("Settlement").creation(
        token.contract_address, settings.ETHEREUM_CLAIM_DELAY_SECONDS, admin, operator, guardian
    )
    settlement = _done(key="deploy:Settlement", call=creation, chain=chain, now=now)
    audit.record("contracts_deployed", subject=f"contract:{settlement.contract_address}", token=token.contract_address)
    return Deployment(
        chain_id=settings.ETHEREUM_CHAIN_ID,
        intercoin=token.contract_address,
        settlement=settlement.contract_address,
        block=settlement.block_number or 0,
    )


def _addresses() -> list[str]:
    """Return admin, guardian, sale holder and founders' holder."""
    if keys.embedded():
        # The operator holds the sale's share, so that it can stock the desk.
        ours = [keys.development_signer(index).address for index in (0, 1, 0, 2)]
        return [getattr(settings, name) or default for name, default in zip(DEPLOYED_ONCE, ours, strict=True)]
    missing = [name for name in DEPLOYED_ONCE if keys.checksummed(getattr(settings, name)) is None]
    if missing:
        raise AddressesMissing(f"Set these to Ethereum addresses before deploying: {', '.join(missing)}.")
    return [str(getattr(settings, name)) for name in DEPLOYED_ONCE]


def _stock_desk(deployment: Deployment, chain: Chain, now: datetime) -> None:
    desk, wanted = keys.operator().address, settings.DESK_INVENTORY_NTC * NANO
    if deployment.contract.deposited(chain, desk) == 0:
        approve = deployment.token.approve(spender=deployment.settlement, amount=wanted)
        _done(key=f"desk:approve:{deployment.settlement}", call=approve, chain=chain, now=now)
        deposit = deployment.contract.deposit(account=desk, amount=wanted)
        _done(key=f"desk:deposit:{deployment.settlement}", call=deposit, chain=chain, now=now)
    units = deployment.contract.deposited(chain, desk)
    lines = (
        ledger.Line(accounts.platform_account("escrow"), -units),
        ledger.Line(accounts.platform_account("desk_inventory"), units),
    )
    posting = ledger.Posting(
        key=f"genesis:desk_inventory:{deployment.settlement}",
        kind="desk_stocked",
        lines=lines,
        effective_at=now,
        memo="NTC deposited in escrow for the desk",
        reference=f"contract:{deployment.settlement}",
    )
    ledger.post(postings=[posting], now=now)


def _done(*, key: str, call: Call, chain: Chain, now: datetime) -> ChainTransaction:
    """Return the transaction once it is in a block.

    Raises:
        ChainUnavailable: it was not within two minutes; run the command again, it goes on waiting for the same one.
        Reverted: it was, and failed.
    """
    row = ChainTransaction.objects.filter(key=key).first()
    if row is None:
        row = transactions.build(key=key, plan=transactions.plan(call=call, chain=chain), now=now)
    give_up_at = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < give_up_at:
        moved = transactions.follow(chain=chain, now=timezone.now()).moved
        row.refresh_from_db()
        if row.state in ON_CHAIN:
            return row
        if row.state == TransactionState.REVERTED:
            raise Reverted
        if not moved:
            time.sleep(POLL_MILLISECONDS / 1000)
    why = row.error or "No block took it yet."
    raise ChainUnavailable(f"The transaction {row.hash} ({key}) is in no block: {why} Run this again to go on waiting.")
