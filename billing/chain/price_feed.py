"""A Chainlink-style price feed, read with the same care as the contracts take: answered, above zero, fresh."""

from __future__ import annotations

from dataclasses import dataclass

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import function_signature_to_4byte_selector

from billing.chain.errors import Reverted
from billing.chain.types import Call, Chain

NANO_DECIMALS = 9
MOST_DECIMALS = 18


@dataclass(frozen=True)
class Price:
    """Nano-dollars for one whole unit; `updated_at` is seconds since 1970."""

    nano_usd: int
    updated_at: int


def read(*, chain: Chain, feed: str) -> Price | None:
    """Return the feed's newest answer, or None when it is no usable price.

    Raises:
        ChainUnavailable: the node does not answer.
    """
    try:
        answer = _ask(chain, feed, "latestRoundData()", ["uint80", "int256", "uint256", "uint256", "uint80"])
        [decimals] = _ask(chain, feed, "decimals()", ["uint8"])
    except (Reverted, DecodingError):
        return None
    price, updated_at = int(answer[1]), int(answer[3])
    if price <= 0 or updated_at <= 0 or decimals > MOST_DECIMALS:
        return None
    nano = price * 10**NANO_DECIMALS // 10**decimals
    return Price(nano, updated_at) if nano > 0 else None


def _ask(chain: Chain, feed: str, function: str, types: list[str]) -> tuple[int, ...]:
    answer = chain.read(Call(feed, function_signature_to_4byte_selector(function)))
    return tuple(decode(types, answer))
