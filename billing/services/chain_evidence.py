"""Whether the logs a node tells hold together with its receipts and blocks, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from billing.chain.deployments import Deployment
from billing.chain.errors import BadAnswer
from billing.chain.interfaces import Event, interface
from billing.chain.types import Block, Chain, Log
from billing.models import ChainEvent


@dataclass(frozen=True)
class Proven:
    """An event that is in its transaction's receipt, in a block the node has. `log_index` counts in the transaction."""

    contract: str
    event: Event
    log: Log
    log_index: int
    block: Block

    @property
    def transaction_hash(self) -> str:
        return self.log.transaction_hash

    def said(self) -> dict[str, Any]:
        """Return what the row says about it whatever block it is in."""
        return {
            "contract": self.contract,
            "address": self.log.address,
            "name": self.event.name,
            "values": self.event.values,
        }

    def block_facts(self) -> dict[str, Any]:
        return {
            "block_number": self.block.number,
            "block_hash": self.block.hash,
            "block_time": datetime.fromtimestamp(self.block.timestamp, UTC),
            "block_index": self.log.index,
        }

    def says_what(self, row: ChainEvent) -> bool:
        """Return whether a row says the same, perhaps in another block."""
        return {name: getattr(row, name) for name in self.said()} == self.said()


def proven(logs: Sequence[Log], *, first: int, last: int, chain: Chain, deployment: Deployment) -> list[Proven]:
    """Return the events of the transactions that some logs are of, in the chain's order; logs a receipt has beside them too.

    Raises:
        BadAnswer: logs, receipts and blocks contradict each other.
    """
    blocks: dict[int, Block] = {}
    found: list[Proven] = []
    for hash_ in dict.fromkeys(log.transaction_hash for log in logs):
        told = [log for log in logs if log.transaction_hash == hash_]
        receipt, number = chain.receipt(hash_), told[0].block_number
        block = blocks.get(number) or chain.block(number)
        if receipt is None or block is None or not receipt.succeeded or not first <= number <= last:
            raise BadAnswer(f"The Ethereum node tells an event of transaction {hash_}, but has no such transaction.")
        if receipt.block_hash != block.hash or not set(told) <= set(receipt.logs):
            raise BadAnswer(f"The Ethereum node's event of transaction {hash_} is not in its receipt.")
        blocks[number] = block
        for log in receipt.logs:
            contract = deployment.watched.get(log.address)
            event = interface(contract).event(log) if contract else None
            if contract and event:
                found.append(Proven(contract, event, log, log.index - receipt.logs[0].index, block))
    return sorted(found, key=lambda one: (one.block.number, one.log.index))
