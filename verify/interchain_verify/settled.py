"""Is a statement under the usage root of an epoch, and did the Settlement contract really settle that root?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from interchain_verify.documents import Unreadable, address_of, amount, hash_of, member, sha256_hex
from interchain_verify.keccak import keccak256
from interchain_verify.report import Report
from interchain_verify.rpc import NoAnswer, Node, as_number

MOST_SIBLINGS = 64
BLOCKS_AT_ONCE = 5_000
SETTLED = "Settled(uint64,bytes32,bytes32,uint64,(uint96,uint32,uint32,uint128[5]))"
VETOED = "Vetoed(uint64,address)"
EVENT_WORDS = 11  # two roots, claimableAt, and eight totals


@dataclass(frozen=True)
class Question:
    """What the person asks of the chain.

    Attributes:
        settlement: the contract's address as they know it, "" when they do not say.
    """

    node: Node | None = None
    confirmations: int = 12
    settlement: str = ""


@dataclass(frozen=True)
class Place:
    """Where the file says the epoch was settled."""

    epoch: int
    usage_root: bytes
    chain_id: int
    settlement: str
    block: int
    transaction: str


def check(proof: dict[str, Any], question: Question, report: Report) -> Place | None:
    """Check the parts `statement`, `epoch` and `chain` of a proof file; returns the place if the chain could be asked about it.

    Raises:
        Unreadable.
    """
    if proof.get("epoch") is None or proof.get("chain") is None:
        report.missing(
            "Inclusion: this statement is in no settled epoch yet. Download the file again after the next settlement."
        )
        return None
    epoch, chain = member(proof, "epoch", dict), member(proof, "chain", dict)
    place = Place(
        epoch=amount(epoch, "number"),
        usage_root=hash_of(epoch.get("usage_root"), "epoch.usage_root"),
        chain_id=amount(chain, "chain_id"),
        settlement=address_of(chain.get("settlement"), "chain.settlement"),
        block=amount(chain, "block_number"),
        transaction="0x" + hash_of(chain.get("transaction"), "chain.transaction").hex(),
    )
    if not _is_included(member(proof, "statement", dict), epoch, place, report):
        return None
    if question.settlement and question.settlement.lower() != place.settlement:
        report.false(f"Contract: the file names {place.settlement}, you expect {question.settlement}.")
        return None
    if question.node is None:
        report.missing(f"Chain: no node was asked. Add --rpc URL to check the root of epoch {place.epoch} on Ethereum.")
        return None
    if not question.settlement:
        report.trusted.append(
            f"that {place.settlement} is Interchain's Settlement contract: compare it with the address you know, or pass it "
            "as --settlement."
        )
    try:
        return place if _is_on_chain(place, question, question.node, report) else None
    except NoAnswer as error:
        report.missing(f"Chain: {error} Try another node.")
        return None


def _is_included(statement: dict[str, Any], epoch: dict[str, Any], place: Place, report: Report) -> bool:
    """Fold the path as OpenZeppelin's MerkleProof does: leaves hashed twice, pairs sorted."""
    siblings = member(epoch, "proof", list)
    if len(siblings) > MOST_SIBLINGS:
        raise Unreadable("epoch.proof is longer than any tree is high.")
    node = keccak256(keccak256(bytes.fromhex(sha256_hex(statement))))
    for sibling in siblings:
        other = hash_of(sibling, "epoch.proof")
        node = keccak256(min(node, other) + max(node, other))
    return report.check(
        node == place.usage_root,
        f"Inclusion: this very statement is one of those under usage root 0x{place.usage_root.hex()} of epoch {place.epoch}.",
        "Inclusion: the statement is not under the usage root. It was changed, or the path is another statement's.",
    )


def _is_on_chain(place: Place, question: Question, node: Node, report: Report) -> bool:
    """Steps: right chain · the transaction's event · its block is still the chain's · deep enough · no veto."""
    chain_id = node.number("eth_chainId")
    if chain_id != place.chain_id:
        report.false(f"Chain: the file is about chain {place.chain_id}, the node is on chain {chain_id}.")
        return False
    receipt = node.receipt(place.transaction)
    words = _settled_words(receipt, place) if receipt else None
    if receipt is None or words is None:
        report.false(
            f"Chain: transaction {place.transaction} did not settle epoch {place.epoch} at {place.settlement}."
        )
        return False
    block = as_number(receipt.get("blockNumber"))
    roots_agree = bytes.fromhex(words[1]) == place.usage_root
    if not roots_agree or block != place.block or node.block(block).get("hash") != receipt.get("blockHash"):
        report.false(
            f"Chain: epoch {place.epoch} was settled with another usage root, or in another block than {place.block}."
        )
        return False
    depth = node.number("eth_blockNumber") - block + 1
    if depth < question.confirmations:
        report.missing(
            f"Chain: settled in block {block}, but only {depth} of {question.confirmations} confirmations. Wait."
        )
        return False
    report.proven(
        f"Chain: the contract {place.settlement} on chain {chain_id} settled epoch {place.epoch} with this usage root "
        f"in block {block} ({depth} blocks deep), transaction {place.transaction}."
    )
    return _is_unvetoed(place, int(words[2], 16), node, report)


def _settled_words(receipt: dict[str, Any], place: Place) -> list[str] | None:
    """Return the event's data in words of 32 bytes: payout root, usage root, claimable at, totals."""
    if receipt.get("status") != "0x1":
        return None
    topics = ["0x" + keccak256(SETTLED.encode()).hex(), f"0x{place.epoch:064x}"]
    for log in receipt.get("logs") or []:
        if str(log.get("address")).lower() == place.settlement and log.get("topics") == topics:
            data = str(log.get("data"))[2:]
            if len(data) == EVENT_WORDS * 64:
                return [data[start : start + 64] for start in range(0, len(data), 64)]
    return None


def _is_unvetoed(place: Place, claimable_at: int, node: Node, report: Report) -> bool:
    kept = node.call(place.settlement, "0x" + keccak256(b"commitment(uint64)")[:4].hex() + f"{place.epoch:064x}")
    if len(kept) != 96:
        raise NoAnswer("The contract's answer about the epoch is not readable.")
    vetoed = bool(kept[95]) if any(kept) else _was_vetoed(place, claimable_at, node)
    if vetoed:
        report.false(f"Veto: a guardian refused epoch {place.epoch}; what it settled does not count.")
        return False
    if as_number(node.block().get("timestamp")) < claimable_at:
        until = time.strftime("%Y-%m-%d %H:%M", time.gmtime(claimable_at))
        report.missing(f"Veto: nobody refused epoch {place.epoch} so far, but a guardian still may until {until} UTC.")
        return False
    report.proven(f"Veto: no guardian refused epoch {place.epoch}, and the time to do so is over.")
    return True


def _was_vetoed(place: Place, claimable_at: int, node: Node) -> bool:
    """For an epoch so old that the contract no longer keeps it: a veto is an event before `claimable_at`."""
    topics = ["0x" + keccak256(VETOED.encode()).hex(), f"0x{place.epoch:064x}"]
    first, newest = place.block, node.number("eth_blockNumber")
    while first <= newest:
        if as_number(node.block(first).get("timestamp")) >= claimable_at:
            return False
        last = min(first + BLOCKS_AT_ONCE - 1, newest)
        if node.logs(address=place.settlement, topics=topics, first=first, last=last):
            return True
        first = last + 1
    return False
