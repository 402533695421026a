"""A bill: one usage statement, the prices it was charged at, the readings it rests on, and the epoch that committed to it."""

from __future__ import annotations

import re
from datetime import datetime
from math import lcm
from typing import Any

from interchain_verify import settled
from interchain_verify.documents import Unreadable, amount, member, objects, sha256_hex, signed_payload
from interchain_verify.report import Report, dollars, ntc

FORMAT, VERSION = "interchain-bill-proof", 1
STATEMENT_VERSION = 2
METERS = {  # base units in one priced unit
    "transfer": 10**9,
    "storage": 10**9 * 86_400,
    "compute": 10**6,
    "uptime": 3_600_000,
    "active_user": 1,
}
GATEWAY_METERS = ("active_user",)
MOST_BATCHES = 2 * len(METERS)  # each meter rests on two readings at most
MOST_KEY_CHANGES = 200
NANO = 10**9
BASIS_POINTS = 10_000
HIGHEST_COMMISSION = 1_000  # 10 %, whitepaper §4
MOST_CARRIED_UNITS = 1_000  # a carry is worth less than one base unit at the rate of the line before
TRUSTED = (
    "that the device measured honestly: its signature shows what it reported, not that it was so;",
    "active users: Interchain's gateway counts them, no device signs them;",
    "that the signing key is that of the device you see on the site: compare the key with the device's page;",
    "that the price list is the published one: compare its hash with the one on the site's price page;",
    "that the rate of USD per NTC was the desk's at that time: compare with the desk's published rates;",
    "the remainder carried over from the line before (less than one millionth of an NTC), which is taken as stated.",
)


def check(proof: dict[str, Any], question: settled.Question) -> Report:
    """Return what a bill proof shows.

    Raises:
        Unreadable: it is not such a file.
    """
    names = {"format", "version", "statement", "price_list", "batches", "key_changes", "epoch", "chain"}
    _only(proof, names, "the file")
    statement = member(proof, "statement", dict)
    if amount(proof, "version") != VERSION or amount(statement, "version") != STATEMENT_VERSION:
        raise Unreadable("This file is of another version. Get the interchain-verify that fits it.")
    report = Report(
        f"Bill line {member(statement, 'key', str)}: {ntc(amount(statement, 'owner_units'))} to the device's owner and "
        f"{ntc(amount(statement, 'commission_units'))} commission, for use from {member(statement, 'from', str)} "
        f"to {member(statement, 'to', str)}.",
        trusted=list(TRUSTED),
    )
    _check_price_list(statement, member(proof, "price_list", dict), report)
    keys = _keys(proof, statement, report)
    _check_readings(statement, member(proof, "batches", dict), keys, report)
    _check_price(statement, report)
    _check_conversion(statement, report)
    settled.check(proof, question, report)
    return report


def _check_price_list(statement: dict[str, Any], document: dict[str, Any], report: Report) -> None:
    stated = member(statement, "price_list", dict)
    _only(
        stated,
        {"id", "region", "version", "sha256", "nano_usd_per_unit", "base_units_per_unit"},
        "statement.price_list",
    )
    same = all(
        document.get(name) == stated.get(name)
        for name in ("region", "version", "nano_usd_per_unit", "base_units_per_unit")
    )
    units = member(stated, "base_units_per_unit", dict) == METERS
    began = _moment(member(document, "effective_at", str)) <= _moment(member(statement, "to", str))
    report.check(
        document.get("format") == "interchain-price-list"
        and sha256_hex(document) == member(stated, "sha256", str)
        and same
        and units
        and began,
        f"Price list: the prices used are those of list {stated.get('region')!r} version {stated.get('version')}, "
        f"in force since {document.get('effective_at')}, SHA-256 {stated.get('sha256')}.",
        "Price list: the list in this file is not the one the statement was charged by, or was not in force yet.",
    )


def _keys(proof: dict[str, Any], statement: dict[str, Any], report: Report) -> list[str]:
    """Return the keys a batch may be signed with: the statement's, then earlier ones of the device, each named by no other
    than the one before it."""
    keys = [member(statement, "device_key", str)]
    changes = objects(proof, "key_changes") if "key_changes" in proof else []
    if len(changes) > MOST_KEY_CHANGES:
        raise Unreadable("The file holds more changes of the device's key than a device can make.")
    for change in reversed(changes):
        _only(change, {"old_key", "statement"}, "a key change")
        old = member(change, "old_key", str)
        says = signed_payload(member(change, "statement", str), old) or {}
        agrees = signed_payload(str(says.get("proof")), keys[-1]) or {}
        named = {"device_id": statement.get("device_id"), "new_key": keys[-1]}
        if any(one.get(name) != value for one in (says, agrees) for name, value in named.items()):
            report.false(f"Signatures: key {old} of the device did not name {keys[-1]} as the next.")
            return keys
        keys.append(old)
    return keys


def _check_readings(statement: dict[str, Any], batches: dict[str, Any], keys: list[str], report: Report) -> None:
    """Check signatures, then that each total rests on a signed reading of this lease, at the line before and now."""
    evidence = member(statement, "evidence", list)
    if len(batches) > MOST_BATCHES:
        raise Unreadable("The file holds more signed batches than a line can rest on.")
    if sorted(batches) != evidence:
        report.false("Signatures: the signed batches in this file are not those the statement names.")
        return
    payloads: dict[str, dict[str, Any]] = {}
    for batch_id, token in batches.items():
        found = ((key, signed_payload(token, key)) for key in keys if isinstance(token, str))
        key, payload = next((one for one in found if one[1] is not None), ("", None))
        if payload is None or payload.get("id") != batch_id or payload.get("device_id") != statement.get("device_id"):
            report.false(f"Signatures: batch {batch_id} is not signed by the device's key.")
            return
        payloads[batch_id] = payload
        if key != keys[0]:
            report.trusted.append(
                f"that {key} was the device's key before it named {keys[0]}: batch {batch_id} has it."
            )
    if payloads:
        report.proven(
            f"Signatures: {len(payloads)} batches of readings are signed (Ed25519) by device {statement.get('device_id')}, "
            f"key {statement.get('device_key')}."
        )
    readings = member(statement, "readings", dict)
    used = member(statement, "used", dict)
    if sorted({one for row in readings.values() for one in (row.get("before"), row.get("now"))} - {""}) != evidence:
        report.false("Readings: the statement names batches that none of its readings rests on.")
        return
    for meter in METERS:
        if not used.get(meter) and meter not in readings:
            continue
        if meter in GATEWAY_METERS:
            report.trusted.append(f"{meter}: {used.get(meter)} counted by the gateway in this line.")
            continue
        _check_meter(meter, statement, member(readings, meter, dict) if meter in readings else {}, payloads, report)


def _check_meter(
    meter: str, statement: dict[str, Any], row: dict[str, Any], payloads: dict[str, dict[str, Any]], report: Report
) -> None:
    lease = member(statement, "lease_id", str)
    for when, totals in (("now", "totals"), ("before", "before")):
        stated = amount(member(statement, totals, dict), meter)
        batch = row.get(when, "")
        if not batch:
            if stated:
                report.missing(f"Readings: no signed reading is kept for {meter} {stated} ({when}).")
            continue
        signed = _signed_total(payloads[batch], lease, meter)
        capped = row.get("capped" if when == "now" else "before_capped") is True
        if signed != stated and not (capped and signed > stated):
            report.false(f"Readings: the device signed {signed} of {meter} ({when}), the statement says {stated}.")
            return
        if capped:
            report.trusted.append(f"{meter}: the device signed {signed}, Interchain allowed only {stated} as possible.")
    before, now = (amount(member(statement, totals, dict), meter) for totals in ("before", "totals"))
    report.check(
        now - before == amount(member(statement, "used", dict), meter),
        f"Readings: {now - before} base units of {meter} were charged: from signed total {before} to signed total {now}.",
        f"Readings: {meter} is charged with another quantity than lies between its readings.",
    )


def _signed_total(payload: dict[str, Any], lease: str, meter: str) -> int:
    """Return the highest total of this lease and meter in a batch, -1 when there is none."""
    found = [one for one in objects(payload, "readings") if one.get("lease_id") == lease and one.get("meter") == meter]
    return max((amount(one, "total") for one in found), default=-1)


def _check_price(statement: dict[str, Any], report: Report) -> None:
    """Price × quantity of the whole period so far, cut once to whole nano-dollars, less what was charged before."""
    prices = member(member(statement, "price_list", dict), "nano_usd_per_unit", dict)
    baseline, before, totals, used = (
        member(statement, name, dict) for name in ("baseline", "before", "totals", "used")
    )
    whole = lcm(*METERS.values())
    cost = in_order = 0
    for meter, size in METERS.items():
        start, then, now = amount(baseline, meter), amount(before, meter), amount(totals, meter)
        in_order += start <= then <= now and now - then == amount(used, meter)
        cost += (now - start) * (amount(prices, meter) if meter in prices else 0) * (whole // size)
    cost //= whole
    charged, earlier = amount(statement, "nano_usd"), amount(statement, "nano_usd_before")
    report.check(
        in_order == len(METERS)
        and set(used) == set(totals) == set(before) == set(baseline) == set(METERS)
        and earlier + charged == cost == amount(statement, "nano_usd_of_period"),
        f"Arithmetic: price × quantity of the period so far is {dollars(cost)}; {dollars(earlier)} of it was charged before, "
        f"so this line is {dollars(charged)}.",
        "Arithmetic: price × quantity does not give the amount charged.",
    )


def _check_conversion(statement: dict[str, Any], report: Report) -> None:
    """NTC at the stated rate, the remainder carried as money; commission on top, its remainder carried too."""
    text = member(statement, "usd_per_ntc", str)
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,18})?", text):
        raise Unreadable("'usd_per_ntc' is not a rate.")
    whole, _, part = text.partition(".")
    rate = int(whole) * NANO + int((part.rstrip("0") or "0").ljust(9, "0"))
    owner, commission = amount(statement, "owner_units"), amount(statement, "commission_units")
    carried, left = amount(statement, "carry_atto_usd_before"), amount(statement, "carry_atto_usd")
    held = amount(statement, "nano_usd") * NANO + carried
    right = len(part.rstrip("0")) <= 9 and rate > 0 and divmod(held, rate) == (owner, left)
    report.check(
        right and carried < MOST_CARRIED_UNITS * rate,
        f"Conversion: {dollars(amount(statement, 'nano_usd'))} at {text} USD per NTC is {ntc(owner)} for the owner.",
        "Conversion: the amount in NTC does not follow from the amount in dollars at the stated rate.",
    )
    points, kept = amount(statement, "commission_basis_points"), amount(statement, "commission_carry_before")
    fair = points <= HIGHEST_COMMISSION and kept < BASIS_POINTS
    report.check(
        fair and divmod(owner * points + kept, BASIS_POINTS) == (commission, amount(statement, "commission_carry")),
        f"Commission: {ntc(commission)} is {points / 100:g} % of the owner's part.",
        "Commission: it is not the stated share of the owner's part, or more than 10 %.",
    )


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Unreadable(f"{text!r} is not a time.") from None
    if found.tzinfo is None:
        raise Unreadable(f"{text!r} has no time zone.")
    return found


def _only(document: dict[str, Any], names: set[str], where: str) -> None:
    strange: list[str] = sorted(set(document) - names)
    if strange:
        raise Unreadable(f"{where} holds {strange[0]!r}, which nothing here checks.")
