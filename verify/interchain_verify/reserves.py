"""A reserves proof: one person's balance is counted in the sum of what Interchain owes, and that sum is on the chain.

The tree (docs/adr/0401): a leaf is SHA-256 of 0x00, its units (16 bytes), and SHA-256 of salt and document; a node is SHA-256 of
0x01 and, for both children, units (16 bytes) and hash. So no sum below can be replaced without changing the root.
"""

from __future__ import annotations

import hashlib
from typing import Any

from interchain_verify import settled
from interchain_verify.bill import _only
from interchain_verify.documents import Unreadable, amount, canonical, hash_of, member, objects
from interchain_verify.keccak import keccak256
from interchain_verify.report import Report, ntc
from interchain_verify.rpc import NoAnswer

FORMAT, VERSION = "interchain-reserves-proof", 1
SUPPLY = 25_000_000 * 10**9  # base units that exist; no sum of the tree can be above
MOST_LEVELS = 40
TRUSTED = (
    "that everybody else is counted as well: each person checks this for themselves, and the more do, the surer it is;",
    "dollars: this is about NTC only;",
    "that your balance was the one you expect at that moment: compare it with your statement on the site.",
)


def check(proof: dict[str, Any], question: settled.Question) -> Report:
    """Return what a reserves proof shows.

    Raises:
        Unreadable: it is not such a file.
    """
    _only(proof, {"format", "version", "statement", "parts", "epoch", "chain"}, "the file")
    statement = member(proof, "statement", dict)
    if amount(proof, "version") != VERSION or amount(statement, "version") != VERSION:
        raise Unreadable("This file is of another version. Get the interchain-verify that fits it.")
    parts = objects(proof, "parts")
    documents = [member(part, "document", dict) for part in parts]
    if not documents:
        raise Unreadable("The file holds no part of a balance.")
    report = Report(
        f"Reserves of {member(statement, 'taken_at', str)}: the balance of {documents[0].get('person')!r}.",
        trusted=list(TRUSTED),
    )
    if _check_person(documents, statement, report):
        _check_paths(parts, statement, report)
    place = settled.check(proof, question, report)
    if place is not None and question.node is not None:
        _check_contract(place, statement, question, report)
    return report


def _check_person(documents: list[dict[str, Any]], statement: dict[str, Any], report: Report) -> bool:
    """All parts are one person's, each once, and together they are the balance."""
    first = documents[0]
    balances = member(first, "balances", dict)
    owed = sum(amount(balances, kind) for kind in balances)
    count = amount(first, "parts")
    same = all(
        one.get("format") == "interchain-reserves-leaf"
        and one.get("snapshot") == statement.get("key")
        and one.get("person") == first.get("person")
        and one.get("balances") == balances
        and one.get("parts") == count
        for one in documents
    )
    for one in documents:
        _only(one, {"format", "snapshot", "person", "balances", "part", "parts", "units"}, "a part's document")
    numbered = sorted(amount(one, "part") for one in documents) == list(range(1, count + 1))
    summed = sum(amount(one, "units") for one in documents) == owed
    lines = ", ".join(f"{kind.replace('_', ' ')} {ntc(units)}" for kind, units in balances.items() if units)
    return report.check(
        same and numbered and summed,
        f"Your balance: {ntc(owed)} owed to {first.get('person')}" + (f" ({lines})." if lines else "."),
        "Your balance: the parts in this file are not one person's whole balance.",
    )


def _check_paths(parts: list[dict[str, Any]], statement: dict[str, Any], report: Report) -> None:
    root = hash_of(statement.get("root"), "statement.root", prefix="")
    total = amount(statement, "people_units")
    places = {amount(part, "position") for part in parts}
    held = len(places) == len(parts) and all(_fold(part) == (root, total) for part in parts)
    report.check(
        held and total <= SUPPLY,
        f"Counted: all parts of it are in the sum of {ntc(total)} owed to people, tree root {root.hex()}.",
        "Counted: a part of the balance is not in the sum under this root.",
    )


def _fold(part: dict[str, Any]) -> tuple[bytes, int]:
    """Return root and sum the path leads to; ("", -1) when a sum on the way is impossible."""
    _only(part, {"document", "salt", "position", "path"}, "a part")
    document = member(part, "document", dict)
    units = amount(document, "units")
    salted = hashlib.sha256(hash_of(part.get("salt"), "salt", prefix="") + canonical(document)).digest()
    node = hashlib.sha256(b"\x00" + _sixteen(units) + salted).digest()
    place, path = amount(part, "position"), objects(part, "path")
    if len(path) > MOST_LEVELS or place >> len(path):
        raise Unreadable("A path does not fit its position.")
    for level, sibling in enumerate(path):
        _only(sibling, {"hash", "units"}, "a path")
        beside = (amount(sibling, "units"), hash_of(sibling.get("hash"), "path.hash", prefix=""))
        pair = [(units, node), beside] if not place >> level & 1 else [beside, (units, node)]
        node = hashlib.sha256(b"\x01" + b"".join(_sixteen(one) + digest for one, digest in pair)).digest()
        units += beside[0]
        if units > SUPPLY:
            return b"", -1
    return node, units


def _sixteen(units: int) -> bytes:
    if units >> 127:
        raise Unreadable("A sum is larger than all NTC.")
    return units.to_bytes(16, "big")


def _check_contract(
    place: settled.Place, statement: dict[str, Any], question: settled.Question, report: Report
) -> None:
    """Compare what the contract holds now with what was owed at the snapshot."""
    platform = member(statement, "platform", dict)
    own = sum(amount(platform, kind) for kind in platform)
    owed = amount(statement, "people_units") + own - amount(statement, "debts_units")
    try:
        held = contract_units(place.settlement, question)
    except NoAnswer as error:
        report.missing(f"Reserves: {error}")
        return
    words = (
        f"the contract holds {ntc(held)} now. Owed at the snapshot: {ntc(amount(statement, 'people_units'))} to people and "
        f"{ntc(own)} of the platform's own, less {ntc(amount(statement, 'debts_units'))} that people owe it."
    )
    if held >= owed:
        report.proven(f"Reserves: {words}")
    else:
        report.missing(
            f"Reserves: {words} Less is there now; payments since the snapshot may be the reason. See a newer one."
        )


def contract_units(settlement: str, question: settled.Question) -> int:
    """Return the NTC base units a Settlement contract holds now, by its token.

    Raises:
        NoAnswer.
    """
    if question.node is None:
        raise NoAnswer("No node was asked.")
    token = question.node.call(settlement, "0x" + keccak256(b"token()")[:4].hex())
    if len(token) != 32:
        raise NoAnswer("The contract does not name its token.")
    ask = "0x" + keccak256(b"balanceOf(address)")[:4].hex() + settlement[2:].rjust(64, "0")
    found = question.node.call("0x" + token[12:].hex(), ask)
    return int.from_bytes(found, "big")
