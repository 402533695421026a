"""Intercoin and Settlement: how to call them, and what their answers and events mean.

Encoding and decoding only; the node is a `Chain` handed in. The ABI and bytecode are those in `billing/chain/abi/`,
proven to be what the sources compile to by `billing/contracts/verify_artifacts.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from eth_abi.abi import decode, encode
from eth_utils.abi import (
    event_abi_to_log_topic,
    function_abi_to_4byte_selector,
    get_abi_input_types,
    get_abi_output_types,
)
from eth_utils.address import to_checksum_address

from billing.chain.types import Call, Chain, Log

ABI = Path(__file__).parent / "abi"


class Interface:
    """One contract's ABI. Overloaded functions are not supported: name yours differently."""

    def __init__(self, name: str) -> None:
        artifact = json.loads((ABI / f"{name}.json").read_text())
        self.bytecode = bytes.fromhex(artifact["bytecode"].removeprefix("0x"))
        self._parts: dict[tuple[str, str], Any] = {
            (part["type"], part.get("name", "")): part for part in artifact["abi"]
        }

    def creation(self, *arguments: object) -> Call:
        """Return the call that deploys the contract."""
        return Call(None, self.bytecode + encode(get_abi_input_types(self._parts["constructor", ""]), arguments))

    def call(self, address: str, function: str, *arguments: object) -> Call:
        part = self._parts["function", function]
        return Call(address, function_abi_to_4byte_selector(part) + encode(get_abi_input_types(part), arguments))

    def read(self, chain: Chain, address: str, function: str, *arguments: object) -> Any:
        """Return a view function's answer: one value, or a tuple when it has several."""
        answer = chain.read(self.call(address, function, *arguments))
        values = decode(get_abi_output_types(self._parts["function", function]), answer)
        return values[0] if len(values) == 1 else values

    def arguments(self, data: bytes) -> tuple[str, tuple[Any, ...]]:
        """Return the function a call names and its arguments. Raises `LookupError` for another contract's call."""
        for (kind, name), part in self._parts.items():
            if kind == "function" and function_abi_to_4byte_selector(part) == data[:4]:
                return name, decode(get_abi_input_types(part), data[4:])
        raise LookupError(data[:4].hex())

    def part(self, kind: str, name: str) -> Any:
        """Return one function's, event's or error's description."""
        return self._parts[kind, name]

    def topic(self, event: str) -> bytes:
        return event_abi_to_log_topic(self._parts["event", event])

    def event(self, event: str, log: Log) -> dict[str, Any]:
        """Return an event's values by name."""
        inputs = self._parts["event", event]["inputs"]
        indexed = [part for part in inputs if part["indexed"]]
        plain = [part for part in inputs if not part["indexed"]]
        types = get_abi_input_types({"type": "event", "name": event, "inputs": plain})
        values = {
            part["name"]: decode([part["type"]], topic)[0] for part, topic in zip(indexed, log.topics[1:], strict=True)
        }
        return values | dict(zip((part["name"] for part in plain), decode(types, log.data), strict=True))

    def errors(self) -> dict[bytes, str]:
        return {
            function_abi_to_4byte_selector(part): name for (kind, name), part in self._parts.items() if kind == "error"
        }


@lru_cache(maxsize=4)
def interface(name: str) -> Interface:
    return Interface(name)


def error_name(data: object) -> str:
    """Return the contract's name for the error in a revert's data, or "" when it is none of ours."""
    text = data.get("data", "") if isinstance(data, dict) else data
    if not isinstance(text, str):
        return ""
    selector = bytes.fromhex(text.removeprefix("0x")[:8])
    return {**interface("Intercoin").errors(), **interface("Settlement").errors()}.get(selector, "")


@dataclass(frozen=True)
class SettledEpoch:
    """What the contract holds for an epoch. `claimable_at` is seconds since 1970."""

    payout_root: str
    usage_root: str
    claimable_at: int
    vetoed: bool


@dataclass(frozen=True)
class Claimed:
    """An account was paid. Amounts in base units; `cumulative` is all it was ever paid, this included."""

    account: str
    epoch: int
    amount: int
    cumulative: int
    transaction_hash: str


@dataclass(frozen=True)
class Settlement:
    """The Settlement contract at an address."""

    address: str

    def settle(self, *, epoch: int, payout_root: str, usage_root: str, totals: tuple[int, int, int]) -> Call:
        """Totals: sum of the payout leaves in base units, their number, and the number of statements."""
        return self._call("settle", epoch, _bytes(payout_root), _bytes(usage_root), totals)

    def claim(self, *, epoch: int, account: str, cumulative: int, proof: list[bytes]) -> Call:
        return self._call("claim", epoch, account, cumulative, proof)

    def deposit(self, *, account: str, amount: int) -> Call:
        return self._call("deposit", account, amount)

    def veto(self, *, epoch: int) -> Call:
        return self._call("veto", epoch)

    def next_epoch(self, chain: Chain) -> int:
        return int(self._read(chain, "nextEpoch"))

    def epoch(self, chain: Chain, number: int) -> SettledEpoch | None:
        """Return what was settled for the epoch, or None when nothing was."""
        payout_root, usage_root, claimable_at, vetoed = self._read(chain, "epochs", number)
        if claimable_at == 0:
            return None
        return SettledEpoch("0x" + payout_root.hex(), "0x" + usage_root.hex(), claimable_at, vetoed)

    def paid(self, chain: Chain, account: str) -> int:
        return int(self._read(chain, "paid", account))

    def deposited(self, chain: Chain, account: str) -> int:
        return int(self._read(chain, "deposited", account))

    def totals(self, chain: Chain) -> tuple[int, int]:
        """Return base units ever deposited and ever paid out."""
        return int(self._read(chain, "totalDeposited")), int(self._read(chain, "totalPaid"))

    def has_operator(self, chain: Chain, account: str) -> bool:
        role = self._read(chain, "OPERATOR_ROLE")
        return bool(self._read(chain, "hasRole", role, account))

    def claims(self, chain: Chain, *, first: int, last: int) -> list[Claimed]:
        """Return the payments in the blocks `first` to `last`, in order."""
        settlement = interface("Settlement")
        found = chain.logs(address=self.address, topic=settlement.topic("Claimed"), first=first, last=last)
        return [_claimed(settlement.event("Claimed", log), log.transaction_hash) for log in found]

    def _call(self, function: str, *arguments: object) -> Call:
        return interface("Settlement").call(self.address, function, *arguments)

    def _read(self, chain: Chain, function: str, *arguments: object) -> Any:
        return interface("Settlement").read(chain, self.address, function, *arguments)


@dataclass(frozen=True)
class Intercoin:
    """The NTC token at an address."""

    address: str

    def approve(self, *, spender: str, amount: int) -> Call:
        return interface("Intercoin").call(self.address, "approve", spender, amount)

    def balance(self, chain: Chain, account: str) -> int:
        return int(interface("Intercoin").read(chain, self.address, "balanceOf", account))

    def allowance(self, chain: Chain, *, owner: str, spender: str) -> int:
        return int(interface("Intercoin").read(chain, self.address, "allowance", owner, spender))


def _claimed(values: dict[str, Any], transaction_hash: str) -> Claimed:
    return Claimed(
        account=to_checksum_address(values["account"]),
        epoch=values["epoch"],
        amount=values["amount"],
        cumulative=values["cumulative"],
        transaction_hash=transaction_hash,
    )


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
