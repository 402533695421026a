"""Deploy the contracts, once; in the embedded default also open the sale and have the desk's NTC allotted from it."""

from __future__ import annotations

import time
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from billing.chain import creations, deployments, following, keys, transactions
from billing.chain.deployments import Deployment
from billing.chain.errors import ChainUnavailable, ForeignContracts, Reverted
from billing.chain.keccak import keccak
from billing.chain.sale import TokenSale
from billing.chain.states import NEVER_DONE, EpochState, TransactionState
from billing.chain.types import Call, Chain
from billing.models import ChainTransaction, Epoch
from billing.money import NANO
from billing.services import chain_accounts, chain_events, contract_settings
from interchain_site.core import audit

WAIT_SECONDS = 120
POLL_MILLISECONDS = 200
ON_CHAIN = (TransactionState.MINED, TransactionState.FINAL)
DESK_STOCK = "desk stock 1"


def deploy(*, chain: Chain, now: datetime) -> Deployment:
    """Make sure the contracts are there, and say where; what is done already is not done again.

    1. Recorded contracts with code are kept.
    2. Else all five are signed and stored together, so that their nonces follow each other, and sent in that order: after a
       crash, or when a local chain lost its blocks, the same bytes give the same addresses. In the embedded default a test
       stablecoin and two test price feeds come first.
    3. The file is written.
    4. Embedded default only: round 1 of the sale is opened, and the cashier allots the desk's NTC; the ledger learns it from
       the chain, as of every deposit.

    Raises:
        AddressesMissing: production settings name no guardian, treasury, feeds and so on.
        ForeignContracts: the recorded ones belong to another database.
        OldDeployment: the file is of an older version.
        ChainError: see `billing.chain.errors`; run it again after mending the cause.
    """
    deployment = _standing(chain) or _deployed(chain, now)
    deployments.record(deployment)
    if keys.embedded():
        _open_sale(deployment, chain, now)
        _stock_desk(deployment, chain, now)
    return deployment


def _standing(chain: Chain) -> Deployment | None:
    """Return the recorded contracts if they are on the chain and ours."""
    recorded = deployments.recorded()
    if recorded is None or not all(chain.has_code(address) for address in (recorded.intercoin, *recorded.watched)):
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
    if keys.embedded():
        for name, creation in contract_settings.local_tokens().items():
            _done(key=f"deploy:{name}", call=creation, chain=chain, now=now)
    wanted = contract_settings.read(chain, {row.key: row.contract_address for row in _rows("deploy:")})
    rows = _built(wanted, chain, now)
    for row in rows:
        _wait(row, chain)
    where = creations.addresses(rows[0].sender.address, rows[0].nonce)
    audit.record("contracts_deployed", subject=f"contract:{where.settlement}", token=where.intercoin, sale=where.sale)
    return Deployment(
        chain_id=settings.ETHEREUM_CHAIN_ID,
        intercoin=where.intercoin,
        settlement=where.settlement,
        sale=where.sale,
        vault=where.vault,
        timelock=where.timelock,
        stablecoin=wanted.stablecoin,
        ether_feed=wanted.ether_feed,
        ntc_feed=wanted.ntc_feed,
        block=rows[0].block_number or 0,
    )


def _built(wanted: creations.Wanted, chain: Chain, now: datetime) -> list[ChainTransaction]:
    """Return the five creations, signed and stored under nonces that follow each other; all of them or none."""
    known = _rows(*(f"deploy:{name}" for name in creations.ORDER))
    if known:
        return known
    empty = transactions.plan_creation(chain=chain, gas_limit=creations.GAS)
    with transaction.atomic():
        sender = transactions.locked_sender(empty)
        where = creations.addresses(sender.address, sender.next_nonce)
        calls = creations.calls(wanted, where)
        return [
            transactions.build(key=f"deploy:{name}", plan=empty.with_call(call), now=now)
            for name, call in zip(creations.ORDER, calls, strict=True)
        ]


def _rows(*beginnings: str) -> list[ChainTransaction]:
    rows = ChainTransaction.objects.filter(key__startswith="deploy:").order_by("nonce")
    return [row for row in rows if any(row.key.startswith(beginning) for beginning in beginnings)]


def _open_sale(deployment: Deployment, chain: Chain, now: datetime) -> None:
    sale = TokenSale(deployment.sale)
    if sale.current_round(chain) == 0:
        call = sale.open_round(price_nano_usd=contract_settings.first_price_nano_usd())
        _done(key=f"sale:open:{deployment.sale}", call=call, chain=chain, now=now, role="sales")


def _stock_desk(deployment: Deployment, chain: Chain, now: datetime) -> None:
    sale, account = TokenSale(deployment.sale), chain_accounts.desk_reference()
    reference = "0x" + keccak(DESK_STOCK.encode()).hex()
    if not sale.reference_used(chain, reference):
        call = sale.allocate(account=account, units=settings.DESK_INVENTORY_NTC * NANO, reference=reference)
        _done(key=f"desk:stock:{deployment.sale}", call=call, chain=chain, now=now, role="cashier")
    chain_events.watch(chain=chain, now=now)


def _done(*, key: str, call: Call, chain: Chain, now: datetime, role: keys.Role = "operator") -> ChainTransaction:
    """Return the transaction once it is in a block. Raises: see `_wait`."""
    row = ChainTransaction.objects.filter(key=key).first()
    if row is None:
        row = transactions.build(key=key, plan=transactions.plan(call=call, chain=chain, role=role), now=now)
    return _wait(row, chain)


def _wait(row: ChainTransaction, chain: Chain) -> ChainTransaction:
    """Return the transaction once it is in a block.

    Raises:
        ChainUnavailable: it was not within two minutes; run the command again, it goes on waiting for the same one.
        Reverted: it was, and failed, or will never be.
    """
    give_up_at = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < give_up_at:
        moved = following.follow(chain=chain, now=timezone.now()).moved
        row.refresh_from_db()
        if row.state in ON_CHAIN:
            return row
        if row.state in NEVER_DONE:
            raise Reverted
        if not moved:
            time.sleep(POLL_MILLISECONDS / 1000)
    why = row.error or "No block took it yet."
    raise ChainUnavailable(
        f"The transaction {row.hash} ({row.key}) is in no block: {why} Run this again to go on waiting."
    )
