"""Stripe's own books: our balance there, every movement of it with its fee, and the lists to compare our rows with.

Failures are the errors of `billing.stripe.client`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from billing.stripe.client import client, errors, every, moment


@dataclass(frozen=True)
class Balance:
    """Our dollars at Stripe in cents; what is pending cannot be sent on yet."""

    available_cents: int
    pending_cents: int


@dataclass(frozen=True)
class Movement:
    """One line of Stripe's books: `net_cents` = `cents` − `fee_cents` entered (or left) our balance.

    `kind` is Stripe's type: charge, refund, refund_failure, adjustment (disputes), transfer, transfer_refund, payout, …
    """

    id: str
    kind: str
    cents: int
    fee_cents: int
    net_cents: int
    source: str
    text: str
    created_at: datetime


@dataclass(frozen=True)
class ChargeNews:
    """A card payment as Stripe has it; `reference` is our payment's id."""

    id: str
    cents: int
    refunded_cents: int
    paid: bool
    payment_intent_id: str
    reference: str
    created_at: datetime


@dataclass(frozen=True)
class Happening:
    """A refund or a dispute, and the payment it is about."""

    id: str
    cents: int
    status: str
    payment_intent_id: str
    created_at: datetime


def balance() -> Balance:
    """Return what Stripe holds for us now, in US dollars."""
    with errors():
        found = client().v1.balance.retrieve().to_dict()
    sums = {
        name: sum(part["amount"] for part in found[name] if part["currency"] == "usd")
        for name in ("available", "pending")
    }
    return Balance(sums["available"], sums["pending"])


def movements(*, since: datetime) -> Iterator[Movement]:
    """Yield every movement of our balance since a moment, newest first."""
    with errors():
        listing = client().v1.balance_transactions.list
    for row in every(listing, _since(since)):
        yield Movement(
            id=row["id"],
            kind=row["type"],
            cents=row["amount"],
            fee_cents=row["fee"],
            net_cents=row["net"],
            source=row.get("source") or "",
            text=row.get("description") or "",
            created_at=moment(row["created"]),
        )


def charges(*, since: datetime) -> Iterator[ChargeNews]:
    """Yield every card payment since a moment, newest first."""
    with errors():
        listing = client().v1.charges.list
    for row in every(listing, _since(since)):
        yield ChargeNews(
            id=row["id"],
            cents=row["amount"],
            refunded_cents=row["amount_refunded"],
            paid=bool(row["paid"]),
            payment_intent_id=row.get("payment_intent") or "",
            reference=(row.get("metadata") or {}).get("payment_id", ""),
            created_at=moment(row["created"]),
        )


def refunds(*, since: datetime) -> Iterator[Happening]:
    """Yield every refund since a moment, newest first, whoever made it."""
    with errors():
        listing = client().v1.refunds.list
    yield from (_happening(row) for row in every(listing, _since(since)))


def disputes(*, since: datetime) -> Iterator[Happening]:
    """Yield every dispute since a moment, newest first."""
    with errors():
        listing = client().v1.disputes.list
    yield from (_happening(row) for row in every(listing, _since(since)))


def _since(since: datetime) -> dict[str, dict[str, int]]:
    return {"created": {"gte": int(since.timestamp())}}


def _happening(row: dict[str, object]) -> Happening:
    return Happening(
        id=str(row["id"]),
        cents=int(str(row["amount"])),
        status=str(row["status"]),
        payment_intent_id=str(row.get("payment_intent") or ""),
        created_at=moment(int(str(row["created"]))),
    )
