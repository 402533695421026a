"""What agents say to each other about the directory: both sides of the exchange.

    GET  /gossip/digest    → {"digest", "sequence", "count", "device", "portal_seconds", "statements"}
    POST /gossip/exchange  {"buckets": {number: {name: sequence}}} → {"records": [JWS], "wanted": [name]}
    POST /gossip/records   {"records": [JWS]} → 204
    POST /gossip/suspect   Suspicion → 204; passed on to the portal
    GET  /gossip/nodes     → {"nodes": JWS over NodeList}
    GET  /directory/<name> → {"record": JWS, "statements": [JWS]}, or 404

Push and pull: each takes what the other has newer, bucket by bucket where the digests differ. Everything taken is checked as if a
liar had sent it; who sends what no honest agent sends is left alone for ten minutes, and the rest of what it sent is not read.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable
from typing import Any

from nodes.agent.contact import Contact
from nodes.agent.directory_store import BUCKETS, Outcome, Store
from nodes.agent.peer_http import PeerOdd, PeerSilent, ask
from nodes.agent.protocol import ProtocolError, from_json
from nodes.agent.rate import Rate
from nodes.agent.records import BadRecord, Suspicion
from nodes.agent.self_stop import Peer

log = logging.getLogger(__name__)
PARTNERS = 2
MOST_BUCKETS, MOST_NAMES, MOST_RECORDS, RECORD_BYTES = 128, 1000, 200, 80_000  # of one exchange
DROPPED_SECONDS = 600.0
MOST_PEERS = 64
TAKEN_PER_SECOND, TAKEN_BURST = 200.0, 2000.0  # signatures checked for strangers, all together
SUSPECT_PER_SECOND, SUSPECT_BURST = 0.2, 5.0  # of one asker


class Answers:
    """What this agent answers to anybody."""

    def __init__(
        self, store: Store, contact: Contact, *, device_id: str, suspect: "Callable[[Suspicion], None]"
    ) -> None:
        """Args: suspect: passes a client's word on to the portal; must not wait."""
        self._store, self._contact, self._device_id, self._suspect = store, contact, device_id, suspect
        self._checked = Rate(TAKEN_PER_SECOND, TAKEN_BURST)
        self._suspected = Rate(SUSPECT_PER_SECOND, SUSPECT_BURST)
        self._dropped: dict[str, float] = {}

    def __call__(self, method: str, path: str, body: bytes, who: str) -> "tuple[int, object]":
        if (method, path) == ("GET", "/gossip/digest"):
            return 200, self._digest()
        if (method, path) == ("GET", "/gossip/nodes"):
            nodes = self._store.fact("nodes")
            return (200, {"nodes": nodes}) if nodes else (404, None)
        if method == "GET" and path.startswith("/directory/"):
            return self._resolve(path.removeprefix("/directory/"))
        if method != "POST":
            return 405, None
        if self._dropped.get(who, 0.0) > time.monotonic():
            return 429, None
        try:
            message = json.loads(body)
            if not isinstance(message, dict):
                return 400, None
            return self._post(path, message, who)
        except (ValueError, RecursionError):  # ProtocolError and BadRecord are ValueErrors
            self._drop(who)
            return 400, None

    def _post(self, path: str, message: "dict[str, Any]", who: str) -> "tuple[int, object]":
        if path == "/gossip/exchange":
            return 200, self._exchange(message)
        if path == "/gossip/records":
            compacts = _texts(message.get("records"))
            if not self._checked.allows("all", time.monotonic(), len(compacts)):
                return 429, None
            take(self._store, compacts)
            return 204, None
        if path == "/gossip/suspect":
            return self._hear(from_json(Suspicion, message), who)
        return 404, None

    def _digest(self) -> "dict[str, object]":
        contact = self._contact
        return {
            "digest": self._store.digest(),
            "sequence": int(self._store.fact("since") or 0),
            "count": self._store.count(),
            "device": self._device_id,
            "portal_seconds": round(time.monotonic() - contact.answered_at, 3) if contact.ever_answered else None,
            "statements": self._statements(),
        }

    def _resolve(self, name: str) -> "tuple[int, object]":
        compact = self._store.get(name)
        return (200, {"record": compact, "statements": self._statements()}) if compact is not None else (404, None)

    def _exchange(self, message: "dict[str, Any]") -> "dict[str, object]":
        found: list[str] = []
        wanted: list[str] = []
        for bucket, theirs in _listings(message.get("buckets")).items():
            newer, lacking = self._store.compare(bucket, theirs)
            found += newer
            wanted += lacking
        return {"records": _records_of(self._store, found), "wanted": wanted[:MOST_RECORDS]}

    def _hear(self, suspicion: Suspicion, who: str) -> "tuple[int, object]":
        """Pass on only what could be true: the endpoint is in the workload's record."""
        if not self._suspected.allows(who, time.monotonic()):
            return 429, None
        record = self._store.of_workloads([suspicion.workload_id]).get(suspicion.workload_id)
        if record is None or suspicion.endpoint not in record.endpoints:
            return 404, None
        self._suspect(suspicion)
        return 204, None

    def _statements(self) -> "list[str]":
        return self._store.trust.statements if self._store.trust is not None else []

    def _drop(self, who: str) -> None:
        log.info("%s sent what no honest agent sends; not listened to for ten minutes.", who)
        now = time.monotonic()
        self._dropped = {asker: until for asker, until in self._dropped.items() if until > now}
        if len(self._dropped) < 1024:
            self._dropped[who] = now + DROPPED_SECONDS


class Gossip:
    """Asks a few random peers at a time. Not safe for several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Peer] = {}
        self._dropped: dict[str, float] = {}

    def peers(self) -> "list[Peer]":
        """Return what is known of each peer that is not dropped."""
        return [self._known.get(address, Peer()) for address in self._addresses()]

    def round(self) -> int:
        """Compare with a few peers; returns how many records were learnt."""
        addresses = self._addresses()
        self._known = {address: peer for address, peer in self._known.items() if address in addresses}
        partners = random.sample(addresses, min(PARTNERS, len(addresses)))
        heard = [address for address in self._known if address not in partners]
        if heard:  # one that answered before, so that silence of many dead addresses is not taken for being cut off
            partners = [random.choice(heard), *partners[1:]]  # noqa: S311 (not a secret)
        learnt = 0
        for address in partners:
            try:
                learnt += self.compare(address)
            except PeerSilent as error:
                log.debug("%s", error)
            except (PeerOdd, BadRecord, ProtocolError) as error:
                log.info("%s is left alone for ten minutes: %s", address, error)
                self._dropped[address] = time.monotonic() + DROPPED_SECONDS
                self._known.pop(address, None)
        return learnt

    def compare(self, address: str) -> int:
        """Exchange with one peer what either lacks; returns how many records we took.

        Raises:
            PeerSilent: it does not answer. PeerOdd, BadRecord: no honest agent answers so.
        """
        said = ask(address, "/gossip/digest")
        if said is None:
            raise PeerSilent(f"{address}: no digest")
        now = time.monotonic()
        age = said.get("portal_seconds")
        heard = isinstance(age, (int, float)) and age >= 0
        self._known[address] = Peer(now, now - float(age) if heard else None)  # type: ignore[arg-type]
        self._store.learn_keys("", _texts(said.get("statements")))
        buckets = self._store.differing(_text(said.get("digest")), most=MOST_BUCKETS)
        if not buckets:
            return 0
        listings: dict[str, dict[str, int]] = {}
        names = 0
        for bucket in buckets:
            listing = self._store.listing(bucket)
            names += len(listing)
            if names > MOST_NAMES and listings:
                break
            listings[str(bucket)] = listing
        answer = ask(address, "/gossip/exchange", {"buckets": listings})
        if answer is None:
            return 0
        learnt = take(self._store, _texts(answer.get("records")))
        ours = _records_of(self._store, _texts(answer.get("wanted")))
        if ours:
            ask(address, "/gossip/records", {"records": ours})
        return learnt

    def _addresses(self) -> "list[str]":
        now = time.monotonic()
        self._dropped = {address: until for address, until in self._dropped.items() if until > now}
        return [address for address in self._store.fact("peers").split()[:MOST_PEERS] if address not in self._dropped]


def take(store: Store, compacts: "list[str]") -> int:
    """Take records from a stranger; returns how many were news.

    Raises:
        BadRecord: one was not of the directory key; those before it were taken, those after are not read.
    """
    learnt = 0
    try:
        for compact in compacts:
            learnt += store.put(compact) is Outcome.TAKEN
    finally:
        store.commit()
    return learnt


def _records_of(store: Store, names: "list[str]") -> "list[str]":
    found: list[str] = []
    size = 0
    for name in names[:MOST_RECORDS]:
        compact = store.get(name)
        size += len(compact or "") + 3
        if size > RECORD_BYTES:
            break
        if compact is not None:
            found.append(compact)
    return found


def _texts(value: Any) -> "list[str]":
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MOST_RECORDS or not all(isinstance(item, str) for item in value):
        raise BadRecord("not a short list of texts")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadRecord("not a text")
    return value


def _listings(value: Any) -> "dict[int, dict[str, int]]":
    """Return the listings of a few buckets as the asker sent them, checked."""
    if not isinstance(value, dict) or len(value) > MOST_BUCKETS:
        raise BadRecord("not a few buckets")
    found = {}
    for number, listing in value.items():
        bucket = int(number)
        if not 0 <= bucket < BUCKETS or not isinstance(listing, dict):
            raise BadRecord("no bucket")
        if not all(type(sequence) is int for sequence in listing.values()):
            raise BadRecord("no sequence")
        found[bucket] = listing
    return found
