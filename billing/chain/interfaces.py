"""The contracts' interfaces: encoding of calls and constructors, decoding of answers, events and refusals.

The ABI and bytecode are those in `billing/chain/abi/`, proven to be what the sources compile to by
`billing/contracts/verify_artifacts.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import (
    collapse_if_tuple,
    event_abi_to_log_topic,
    function_abi_to_4byte_selector,
    get_abi_input_types,
    get_abi_output_types,
)
from eth_utils.address import to_checksum_address

from billing.chain.errors import BadAnswer
from billing.chain.types import Call, Chain, Log

ABI = Path(__file__).parent / "abi"
SELECTOR_BYTES = 4


@dataclass(frozen=True)
class Event:
    """What a contract said. `values` by name, fit for JSON: whole numbers as text, bytes as 0x…, addresses in EIP-55 form."""

    name: str
    values: dict[str, Any]


class Interface:
    """One contract's ABI. Overloaded functions are not supported: name yours differently."""

    def __init__(self, name: str) -> None:
        artifact = json.loads((ABI / f"{name}.json").read_text())
        self.name = name
        self.bytecode = bytes.fromhex(artifact["bytecode"].removeprefix("0x"))
        self._parts: dict[tuple[str, str], Any] = {
            (part["type"], part.get("name", "")): part for part in artifact["abi"]
        }
        self._functions = self._by_selector("function")
        self.errors = self._by_selector("error")
        self._events = {
            event_abi_to_log_topic(part): part for (kind, _), part in self._parts.items() if kind == "event"
        }

    def creation(self, *arguments: object) -> Call:
        """Return the call that deploys the contract."""
        return Call(None, self.bytecode + encode(get_abi_input_types(self._parts["constructor", ""]), arguments))

    def call(self, address: str, function: str, *arguments: object) -> Call:
        part = self._parts["function", function]
        return Call(address, function_abi_to_4byte_selector(part) + encode(get_abi_input_types(part), arguments))

    def read(self, chain: Chain, address: str, function: str, *arguments: object, block: int | None = None) -> Any:
        """Return a view function's answer, at a block or now: one value, or a tuple when it has several.

        Raises:
            BadAnswer: it cannot be read: a node that lies, or lost the contract's block.
        """
        answer = chain.read(self.call(address, function, *arguments), block=block)
        try:
            values = decode(get_abi_output_types(self._parts["function", function]), answer)
        except DecodingError as error:
            raise BadAnswer(f"The Ethereum node answers as though there were no {self.name} at {address}.") from error
        return values[0] if len(values) == 1 else values

    def arguments(self, data: bytes) -> tuple[str, tuple[Any, ...]]:
        """Return the function a call names and its arguments. Raises `LookupError` for another contract's call."""
        name = self._functions[data[:SELECTOR_BYTES]]
        return name, decode(get_abi_input_types(self._parts["function", name]), data[SELECTOR_BYTES:])

    def part(self, kind: str, name: str) -> Any:
        """Return one function's, event's or error's description."""
        return self._parts[kind, name]

    def event(self, log: Log) -> Event | None:
        """Return what a log of this contract says, or None when the interface knows no such event."""
        part = self._events.get(log.topics[0]) if log.topics else None
        if part is None:
            return None
        topics, plain = iter(log.topics[1:]), [one for one in part["inputs"] if not one["indexed"]]
        data = iter(decode([collapse_if_tuple(one) for one in plain], log.data))
        values: dict[str, Any] = {}
        for one in part["inputs"]:
            value = decode([collapse_if_tuple(one)], next(topics))[0] if one["indexed"] else next(data)
            values[one["name"]] = _plain(value, one)
        return Event(part["name"], values)

    def said(self, event: str, **values: object) -> tuple[tuple[bytes, ...], bytes]:
        """Return an event's topics and data, as the contract would emit them."""
        part = self._parts["event", event]
        indexed = [one for one in part["inputs"] if one["indexed"]]
        plain = [one for one in part["inputs"] if not one["indexed"]]
        topics = [encode([collapse_if_tuple(one)], [values[one["name"]]]) for one in indexed]
        data = encode([collapse_if_tuple(one) for one in plain], [values[one["name"]] for one in plain])
        return (event_abi_to_log_topic(part), *topics), data

    def _by_selector(self, wanted: str) -> dict[bytes, str]:
        found = ((name, part) for (kind, name), part in self._parts.items() if kind == wanted)
        return {function_abi_to_4byte_selector(part): name for name, part in found}


@lru_cache(maxsize=16)
def interface(name: str) -> Interface:
    """Return the interface of one of the contracts in `abi/`."""
    return Interface(name)


def error_name(data: object) -> str:
    """Return the contract's name for the error in a revert's data, or "" when it is none of ours."""
    text = data.get("data", "") if isinstance(data, dict) else data
    if not isinstance(text, str):
        return ""
    return _errors().get(text.removeprefix("0x")[: 2 * SELECTOR_BYTES].lower(), "")


@lru_cache(maxsize=1)
def _errors() -> dict[str, str]:
    names = sorted(path.stem for path in ABI.glob("*.json"))
    return {selector.hex(): error for name in names for selector, error in interface(name).errors.items()}


def _plain(value: Any, part: Any) -> Any:
    """Return a decoded value as JSON keeps it exactly."""
    kind = str(part["type"])
    if kind.endswith("]"):
        inner = {**part, "type": kind[: kind.rindex("[")]}
        return [_plain(one, inner) for one in value]
    if kind == "tuple":
        return {one["name"]: _plain(item, one) for one, item in zip(part["components"], value, strict=True)}
    if kind == "address":
        return str(to_checksum_address(value))
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return value if isinstance(value, bool | str) else str(value)
