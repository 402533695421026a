"""What the directory key signs, and how whoever got it from a stranger checks it. No network, no database; both sides use it.

A record is a compact JWS (Ed25519) over canonical JSON. Its `sequence` is the directory's own count of changes, so two records
of a name are put in order without a clock; its `generation` is the workload's and never falls. `connect/` has the same rules in
a program of its own, and `connect/tests/test_same_rules.py` holds the two together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nodes.agent import jws, protocol
from nodes.agent.protocol import ProtocolError, from_json

if TYPE_CHECKING:
    from nodes.agent.keys import DeviceKey

RECORD_KIND, KEY_KIND, NODES_KIND = "directory-record", "directory-key", "directory-nodes"
MOST_ENDPOINTS = 16  # of a succession; more would only make records longer
MOST_NODES = 32
MOST_BYTES = 4096
LONGEST_LIFE_SECONDS = 30 * 86_400
SKEW_SECONDS = 300  # a record from further in the future is refused
_HEADER = jws.encode(b'{"alg":"Ed25519"}') + "."
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_ENDPOINT = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?):([1-9][0-9]{0,4})\Z")


class BadRecord(ValueError):
    """Nobody honest sends this: not signed by the directory key, or not what it should be."""


class Stale(ValueError):
    """Once good, and no longer: expired. Honest nodes with a slow clock may send it."""


@dataclass(frozen=True)
class Record:
    """Where a name is served. No endpoints: nothing serves it now. `wiped`: nothing of it is left."""

    name: str
    workload_id: str
    generation: int  # the workload's newest
    endpoints: tuple[str, ...]  # host:port, the succession, best first
    sequence: int
    issued: int  # seconds since 1970
    expires: int
    generations: tuple[int, ...] = ()  # of the lease behind each endpoint
    slots: tuple[int, ...] = ()  # which replica each endpoint is
    wiped: bool = False
    kind: str = RECORD_KIND


@dataclass(frozen=True)
class KeyChange:
    """Signed with the old directory key: the new one speaks from now on; the old one's records hold until `old_until`."""

    old_key: str
    new_key: str
    old_until: int  # seconds since 1970
    kind: str = KEY_KIND


@dataclass(frozen=True)
class NodeList:
    """Some nodes that serve the directory, for clients to ask."""

    nodes: tuple[str, ...]  # host:port
    issued: int
    expires: int
    kind: str = NODES_KIND


@dataclass(frozen=True)
class DirectoryDelta:
    """`GET /api/node/v1/directory?since=N`: records whose sequence is above N, in order. `more`: ask again at once."""

    sequence: int  # the `since` of the next question
    records: tuple[str, ...] = ()
    more: bool = False
    key: str = ""  # Ed25519 JWK `x`: the first directory key
    statements: tuple[str, ...] = ()  # JWS over KeyChange, oldest first
    peers: tuple[str, ...] = ()  # host:port of other agents' directories
    nodes: str = ""  # JWS over NodeList


@dataclass(frozen=True)
class Suspicion:
    """A client's word, passed on by a node, that an endpoint does not answer."""

    workload_id: str
    endpoint: str


class Trust:
    """Which keys speak for the directory: the first one, and what each signed about the next."""

    def __init__(self, first: str, statements: Iterable[str] = ()) -> None:
        self.first = first
        self.statements: list[str] = []
        self._current, self._previous, self._previous_until = first, "", 0
        self.follow(statements)

    @property
    def current(self) -> str:
        return self._current

    def follow(self, statements: Iterable[str]) -> bool:
        """Take the changes the key in force signed; others are passed over. Returns whether there were any.

        The first word of a key about its successor is its last: a stolen old key names no other.
        """
        before = len(self.statements)
        for statement in statements:
            try:
                change = from_json(KeyChange, verified(statement, (self._current,)))
            except (BadRecord, ProtocolError):
                continue
            if change.kind != KEY_KIND or change.old_key != self._current or change.new_key == self._current:
                continue
            self._previous, self._previous_until = self._current, change.old_until
            self._current = change.new_key
            self.statements.append(statement)
        return len(self.statements) > before

    def keys(self, now: float) -> tuple[str, ...]:
        """Return the keys whose records count now."""
        return (self._current, self._previous) if self._previous and now < self._previous_until else (self._current,)


def sign(message: Any, key: "DeviceKey") -> str:
    """Return a record, a key change or a list of nodes as its compact JWS."""
    return key.sign(protocol.to_json(message))


def verified(compact: str, keys: Iterable[str]) -> bytes:
    """Return what a compact JWS says, proven to be of one of these Ed25519 keys (JWK `x`).

    Raises:
        BadRecord: it is of none of them, or no JWS in the one form we make.
    """
    if not isinstance(compact, str) or len(compact) > MOST_BYTES:
        raise BadRecord("not a short text")
    if not compact.startswith(_HEADER):
        raise BadRecord("not signed as the directory signs")
    for x in keys:
        try:
            return jws.verified(compact, x)
        except jws.BadSignature:
            continue
    raise BadRecord("not signed by the directory key")


def read(compact: str, keys: Iterable[str], now: float) -> Record:
    """Return the record in a compact JWS from anybody, checked.

    Raises:
        BadRecord: it is none of ours. Stale: it has expired.
    """
    try:
        record = from_json(Record, verified(compact, keys))
    except ProtocolError as error:
        raise BadRecord(str(error)) from None
    if record.kind != RECORD_KIND or not _LABEL.match(record.name):
        raise BadRecord("signed, but no record")
    if record.generation < 1 or record.sequence < 1 or len(record.endpoints) > MOST_ENDPOINTS:
        raise BadRecord("out of range")
    if not all(is_endpoint(endpoint) for endpoint in record.endpoints):
        raise BadRecord("not an endpoint")
    _check_times(record.issued, record.expires, now)
    return record


def unchecked(compact: str) -> Record:
    """Return what a record of one's own making says. Never for what came from somebody else."""
    return from_json(Record, jws.decode(compact.split(".")[1]))


def unchecked_nodes(compact: str) -> NodeList:
    """Return what a list of one's own making says."""
    return from_json(NodeList, jws.decode(compact.split(".")[1]))


def read_nodes(compact: str, keys: Iterable[str], now: float) -> NodeList:
    """Return the list of nodes in a compact JWS. Raises as `read`."""
    try:
        found = from_json(NodeList, verified(compact, keys))
    except ProtocolError as error:
        raise BadRecord(str(error)) from None
    if found.kind != NODES_KIND or len(found.nodes) > MOST_NODES or not all(is_endpoint(node) for node in found.nodes):
        raise BadRecord("signed, but no list of nodes")
    _check_times(found.issued, found.expires, now)
    return found


def supersedes(new: Record, old: Record) -> bool:
    """Whether a record takes another's place. The same workload's generation never goes back."""
    if new.workload_id == old.workload_id and new.generation < old.generation:
        return False
    return new.sequence > old.sequence


def is_endpoint(text: str) -> bool:
    """Whether the text is `host:port` or `[IPv6]:port`."""
    match = _ENDPOINT.match(text)
    return match is not None and int(match[3]) <= 65535


def split(endpoint: str) -> "tuple[str, int]":
    """Return host and port of an endpoint."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def _check_times(issued: int, expires: int, now: float) -> None:
    if issued > now + SKEW_SECONDS or not 0 < expires - issued <= LONGEST_LIFE_SECONDS:
        raise BadRecord("its times cannot be true")
    if expires <= now:
        raise Stale("it has expired")


def canonical(data: Any) -> str:
    """Return JSON in the one form that is compared: sorted, without spaces."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"))
