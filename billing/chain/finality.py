"""How deep is deep enough: `ETHEREUM_FINALITY` and `ETHEREUM_CONFIRMATIONS`, and a second node that may object."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings

from billing.chain.client import connect_to
from billing.chain.errors import NodesDisagree
from billing.chain.types import Chain

FINALIZED = "finalized"


def final_block(chain: Chain) -> int:
    """Return the number of the newest block that counts as final; a later reorganisation below it is an accident.

    Raises:
        ChainRefused: `ETHEREUM_FINALITY` is `finalized`, and the chain has no such notion.
    """
    if settings.ETHEREUM_FINALITY == FINALIZED:
        return chain.finalized().number
    return chain.head().number - settings.ETHEREUM_CONFIRMATIONS + 1


def make_sure(*, number: int, hash: str, witness: Chain | None = None) -> None:
    """Ask the second node (`ETHEREUM_CHECK_RPC_URL`, if set) whether it has the same block.

    Raises:
        NodesDisagree: it has another, or none.
        ChainUnavailable: it does not answer; what is final waits.
    """
    node = witness or _witness(settings.ETHEREUM_CHECK_RPC_URL, settings.ETHEREUM_CHAIN_ID)
    if node is None:
        return
    found = node.block(number)
    if found is None or found.hash != hash:
        raise NodesDisagree.about(number, hash, found.hash if found else "none")


@lru_cache(maxsize=2)
def _witness(url: str, chain_id: int) -> Chain | None:
    return connect_to(url, chain_id) if url else None
