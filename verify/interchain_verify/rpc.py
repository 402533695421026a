"""An Ethereum node over JSON-RPC, read only."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_SECONDS = 20
LARGEST_ANSWER = 16 * 1024 * 1024


class NoAnswer(Exception):
    """The node did not answer, or not what it was asked."""


class Node:
    """A node behind a URL."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise NoAnswer("--rpc wants an address that begins with http:// or https://.")
        self._url = url

    def number(self, method: str, *params: Any) -> int:
        """Return a quantity."""
        return as_number(self._ask(method, *params))

    def block(self, number: int | None = None) -> dict[str, Any]:
        """Return a block's header; the newest by default."""
        found = self._ask("eth_getBlockByNumber", "latest" if number is None else hex(number), False)
        if not isinstance(found, dict):
            raise NoAnswer(f"The node does not have block {number}.")
        return found

    def receipt(self, transaction: str) -> dict[str, Any] | None:
        """Return a transaction's receipt, or None when the node knows of none."""
        found = self._ask("eth_getTransactionReceipt", transaction)
        return found if isinstance(found, dict) else None

    def call(self, to: str, data: str, *, block: str = "latest") -> bytes:
        """Return what a view function answers."""
        found = self._ask("eth_call", {"to": to, "data": data}, block)
        try:
            return bytes.fromhex(found[2:])
        except (TypeError, ValueError):
            raise NoAnswer("The node's answer to eth_call is not hex.") from None

    def logs(self, *, address: str, topics: list[str], first: int, last: int) -> list[dict[str, Any]]:
        """Return a contract's events in the blocks `first` to `last`."""
        wanted = {"address": address, "topics": topics, "fromBlock": hex(first), "toBlock": hex(last)}
        found = self._ask("eth_getLogs", wanted)
        if not isinstance(found, list):
            raise NoAnswer("The node's answer to eth_getLogs is not a list.")
        return found

    def _ask(self, method: str, *params: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self._url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310 (checked above)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                found = json.loads(answer.read(LARGEST_ANSWER))
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
            raise NoAnswer(f"The node does not answer {method}: {error}.") from None
        if not isinstance(found, dict) or "result" not in found:
            trouble = found.get("error") if isinstance(found, dict) else found
            raise NoAnswer(f"The node refuses {method}: {trouble}.")
        return found["result"]


def as_number(text: Any) -> int:
    """Return a JSON-RPC quantity."""
    try:
        return int(text, 16)
    except (TypeError, ValueError):
        raise NoAnswer(f"The node answered {text!r} where a number was expected.") from None
