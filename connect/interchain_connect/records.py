"""Checks what nodes answer. Nobody is believed: only what the directory's key signed counts (docs/agent-protocol.md).

The same rules as `nodes/agent/records.py`, in a program that needs nothing of it; `tests/test_same_rules.py` holds the two together.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MOST_BYTES = 4096
MOST_ENDPOINTS, MOST_NODES = 16, 32
LONGEST_LIFE_SECONDS, SKEW_SECONDS = 30 * 86_400, 300
_HEADER = base64.urlsafe_b64encode(b'{"alg":"Ed25519"}').rstrip(b"=").decode()
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_ENDPOINT = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?):([1-9][0-9]{0,4})\Z")


class BadRecord(ValueError):
    """The directory's key did not sign this, or it is not what it should be, or it is over."""


@dataclass(frozen=True)
class Record:
    """Where a name is served: `endpoints` in order, best first."""

    name: str
    workload_id: str
    generation: int
    sequence: int
    endpoints: tuple[str, ...]
    issued: int
    expires: int
    wiped: bool
    compact: str  # as it was signed


class Trust:
    """The keys that speak for the directory: the first one, and what each signed about the next."""

    def __init__(self, first: str, statements: Iterable[str] = ()) -> None:
        self.first = first
        self.statements: list[str] = []
        self._current, self._previous, self._previous_until = first, "", 0
        self.follow(statements)

    def follow(self, statements: Iterable[str]) -> bool:
        """Take the changes the key in force signed; others are passed over. Returns whether there were any."""
        before = len(self.statements)
        for statement in statements:
            try:
                said = _object(verified(statement, (self._current,)))
            except BadRecord:
                continue
            old, new, until = said.get("old_key"), said.get("new_key"), said.get("old_until")
            if said.get("kind") != "directory-key" or old != self._current or type(until) is not int:
                continue
            if not isinstance(new, str) or new == self._current:
                continue
            self._previous, self._previous_until, self._current = self._current, until, new
            self.statements.append(statement)
        return len(self.statements) > before

    def keys(self, now: float) -> tuple[str, ...]:
        """Return the keys whose records count now."""
        return (self._current, self._previous) if self._previous and now < self._previous_until else (self._current,)


def read(compact: Any, keys: Iterable[str], now: float, *, name: str = "") -> Record:
    """Return the record in an answer, checked; with a name, only that name's.

    Raises:
        BadRecord: it does not count, for whichever reason.
    """
    said = _object(verified(compact, keys))
    record = _record(said, compact)
    if said.get("kind") != "directory-record" or not _LABEL.match(record.name) or name not in ("", record.name):
        raise BadRecord("signed, but not a record of this name")
    if record.generation < 1 or record.sequence < 1 or len(record.endpoints) > MOST_ENDPOINTS:
        raise BadRecord("out of range")
    _check_times(record.issued, record.expires, now)
    return record


def read_nodes(compact: Any, keys: Iterable[str], now: float) -> tuple[str, ...]:
    """Return the nodes in a signed list. Raises as `read`."""
    said = _object(verified(compact, keys))
    nodes = said.get("nodes")
    if said.get("kind") != "directory-nodes" or not _are_endpoints(nodes, MOST_NODES):
        raise BadRecord("signed, but no list of nodes")
    _check_times(said.get("issued"), said.get("expires"), now)
    return tuple(nodes)  # type: ignore[arg-type]


def supersedes(new: Record, old: Record) -> bool:
    """Whether a record takes another's place. The same workload's generation never goes back."""
    if new.workload_id == old.workload_id and new.generation < old.generation:
        return False
    return new.sequence > old.sequence


def split(endpoint: str) -> tuple[str, int]:
    """Return host and port."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def verified(compact: Any, keys: Iterable[str]) -> bytes:
    """Return what a compact JWS says, proven to be of one of these Ed25519 keys (JWK `x`). Raises BadRecord."""
    if not isinstance(compact, str) or len(compact) > MOST_BYTES:
        raise BadRecord("not a short text")
    head, _, signature_text = compact.rpartition(".")
    header, _, payload_text = head.partition(".")
    if header != _HEADER:
        raise BadRecord("not signed as the directory signs")
    signature, payload = _decoded(signature_text), _decoded(payload_text)
    for x in keys:
        try:
            Ed25519PublicKey.from_public_bytes(_decoded(x)).verify(signature, head.encode("ascii"))
            return payload
        except (InvalidSignature, ValueError):
            continue
    raise BadRecord("not signed by the directory key")


def _record(said: dict[str, Any], compact: str) -> Record:
    shape = {"name": str, "workload_id": str, "generation": int, "sequence": int, "issued": int, "expires": int}
    if (
        any(type(said.get(key)) is not kind for key, kind in shape.items())
        or type(said.get("wiped", False)) is not bool
    ):
        raise BadRecord("not a record")
    if not _are_endpoints(said.get("endpoints"), MOST_ENDPOINTS):
        raise BadRecord("not endpoints")
    values: dict[str, Any] = {key: said[key] for key in shape}
    return Record(**values, endpoints=tuple(said["endpoints"]), wiped=said.get("wiped", False), compact=compact)


def _are_endpoints(value: Any, most: int) -> bool:
    return isinstance(value, list) and len(value) <= most and all(_is_endpoint(item) for item in value)


def _is_endpoint(text: Any) -> bool:
    match = _ENDPOINT.match(text) if isinstance(text, str) else None
    return match is not None and int(match[3]) <= 65535


def _check_times(issued: Any, expires: Any, now: float) -> None:
    if type(issued) is not int or type(expires) is not int:
        raise BadRecord("no times")
    if issued > now + SKEW_SECONDS or not 0 < expires - issued <= LONGEST_LIFE_SECONDS or expires <= now:
        raise BadRecord("it is over, or not yet")


def _object(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        raise BadRecord("not JSON") from None
    if not isinstance(found, dict):
        raise BadRecord("no JSON object")
    return found


def _decoded(text: str) -> bytes:
    """Base64url without padding, in its one canonical form."""
    try:
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise BadRecord("not base64url") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise BadRecord("not in its canonical form")
    return data
