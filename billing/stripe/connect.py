"""Stripe Connect: a person's own account at Stripe, dollars sent to it, and on to their bank.

Every answer is one of the frozen types below, every failure one of the errors of `billing.stripe.client`. Calls that move money take an
idempotency key; Stripe forgets keys after a day, so callers first look (`find_transfer`, `find_payout`) and only then create.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from billing.stripe.client import client, errors, every, moment

# Stripe collects and checks what the law asks for; we owe Stripe's fees and stand for losses; payouts go when we say so.
_CONTROLLER = {
    "fees": {"payer": "application"},
    "losses": {"payments": "application"},
    "requirement_collection": "stripe",
    "stripe_dashboard": {"type": "express"},
}


@dataclass(frozen=True)
class AccountNews:
    """A connected account as Stripe has it now.

    Attributes:
        transfers_active: dollars can be sent to it.
        payouts_enabled: it can pay out to its bank.
        due: what Stripe still wants of the person, by Stripe's names.
        pending: what Stripe is checking.
        disabled_reason: why it is switched off, by Stripe's name; empty while nothing is wrong.
        bank: name and last four digits of the bank account, empty while there is none.
        bank_failed: the last payout to this bank came back; the person must give another.
    """

    id: str
    country: str
    currency: str
    submitted: bool
    transfers_active: bool
    payouts_enabled: bool
    due: tuple[str, ...]
    pending: tuple[str, ...]
    disabled_reason: str
    problem: str
    bank: str
    bank_failed: bool


@dataclass(frozen=True)
class TransferNews:
    """Dollars sent to a connected account; `reversed_cents` came back."""

    id: str
    cents: int
    reversed_cents: int
    destination: str
    group: str
    created_at: datetime


@dataclass(frozen=True)
class PayoutNews:
    """Dollars on their way to a bank. `status`: pending, in_transit, paid, failed or canceled."""

    id: str
    cents: int
    status: str
    failure_code: str
    arrives_on: date
    reference: str
    created_at: datetime


def create_account(*, reference: str, email: str, country: str) -> AccountNews:
    """Open a person's account at Stripe; the same `reference` opens one only.

    Raises:
        StripeRefused: e.g. a country we may not pay to.
    """
    params: Any = {
        "business_type": "individual",
        "capabilities": {"transfers": {"requested": True}},
        "controller": _CONTROLLER,
        "country": country,
        "email": email,
        "metadata": {"reference": reference},
        "settings": {"payouts": {"schedule": {"interval": "manual"}}},
    }
    with errors():
        created = client().v1.accounts.create(params, {"idempotency_key": f"account:{reference}"})
        return _account(created.to_dict())


def read_account(account_id: str) -> AccountNews:
    """Read an account again."""
    with errors():
        return _account(client().v1.accounts.retrieve(account_id).to_dict())


def onboarding_url(*, account_id: str, return_url: str, refresh_url: str) -> str:
    """Return a single-use address where the person gives Stripe what it wants to know."""
    params: Any = {
        "account": account_id,
        "return_url": return_url,
        "refresh_url": refresh_url,
        "type": "account_onboarding",
        "collection_options": {"fields": "eventually_due"},
    }
    with errors():
        return client().v1.account_links.create(params).url


def dashboard_url(account_id: str) -> str:
    """Return a single-use address of the person's own pages at Stripe, where the bank account can be changed."""
    with errors():
        return client().v1.accounts.login_links.create(account_id).url


def find_transfer(group: str) -> TransferNews | None:
    """Return the transfer made under our reference, if there is one."""
    with errors():
        found = client().v1.transfers.list({"transfer_group": group, "limit": 1}).to_dict()["data"]
    return _transfer(found[0]) if found else None


def create_transfer(*, group: str, cents: int, destination: str, idempotency_key: str) -> TransferNews:
    """Send dollars from our balance at Stripe to a person's.

    Raises:
        StripeRefused: `reason` is `balance_insufficient` while our balance does not hold as much.
    """
    params: Any = {
        "amount": cents,
        "currency": "usd",
        "destination": destination,
        "transfer_group": group,
        "metadata": {"reference": group},
    }
    with errors():
        return _transfer(client().v1.transfers.create(params, {"idempotency_key": idempotency_key}).to_dict())


def read_transfer(transfer_id: str) -> TransferNews:
    """Read a transfer again."""
    with errors():
        return _transfer(client().v1.transfers.retrieve(transfer_id).to_dict())


def reverse_transfer(*, transfer_id: str, cents: int, idempotency_key: str) -> None:
    """Take dollars back from a person's balance at Stripe into ours.

    Raises:
        StripeRefused: `reason` is `balance_insufficient` while the person's balance does not hold as much.
    """
    params: Any = {"amount": cents}
    with errors():
        client().v1.transfers.reversals.create(transfer_id, params, {"idempotency_key": idempotency_key})


def find_payout(*, account_id: str, reference: str, since: datetime) -> PayoutNews | None:
    """Return the payout made under our reference since a moment, if there is one."""
    params = {"created": {"gte": int(since.timestamp())}}
    with errors():
        listing = client().v1.payouts.list
    found = (_payout(row) for row in every(listing, params, {"stripe_account": account_id}))
    return next((payout for payout in found if payout.reference == reference), None)


def create_payout(*, account_id: str, reference: str, cents: int, idempotency_key: str) -> PayoutNews:
    """Send dollars from a person's balance at Stripe to their bank.

    Raises:
        StripeRefused: e.g. the balance does not hold as much, or payouts are switched off.
    """
    params: Any = {
        "amount": cents,
        "currency": "usd",
        "metadata": {"reference": reference},
        "statement_descriptor": "INTERCHAIN",
    }
    options: Any = {"stripe_account": account_id, "idempotency_key": idempotency_key}
    with errors():
        return _payout(client().v1.payouts.create(params, options).to_dict())


def read_payout(*, account_id: str, payout_id: str) -> PayoutNews:
    """Read a payout of a connected account again."""
    options: Any = {"stripe_account": account_id}
    with errors():
        return _payout(client().v1.payouts.retrieve(payout_id, {}, options).to_dict())


def transfers(*, since: datetime) -> Iterator[TransferNews]:
    """Yield all transfers since a moment, newest first."""
    with errors():
        listing = client().v1.transfers.list
    yield from (_transfer(row) for row in every(listing, {"created": {"gte": int(since.timestamp())}}))


def payouts(*, account_id: str, since: datetime) -> Iterator[PayoutNews]:
    """Yield all payouts of a connected account since a moment, newest first."""
    with errors():
        listing = client().v1.payouts.list
    rows = every(listing, {"created": {"gte": int(since.timestamp())}}, {"stripe_account": account_id})
    yield from (_payout(row) for row in rows)


def _account(found: dict[str, Any]) -> AccountNews:
    wanted = found.get("requirements") or {}
    banks = (found.get("external_accounts") or {}).get("data") or []
    bank = banks[0] if banks else {}
    problems = [str(error.get("reason", "")) for error in wanted.get("errors") or []]
    return AccountNews(
        id=found["id"],
        country=found.get("country") or "",
        currency=bank.get("currency") or found.get("default_currency") or "",
        submitted=bool(found.get("details_submitted")),
        transfers_active=(found.get("capabilities") or {}).get("transfers") == "active",
        payouts_enabled=bool(found.get("payouts_enabled")),
        due=tuple(wanted.get("currently_due") or ()),
        pending=tuple(wanted.get("pending_verification") or ()),
        disabled_reason=wanted.get("disabled_reason") or "",
        problem=problems[0] if problems else "",
        bank=f"{bank.get('bank_name') or 'Bank'} ····{bank['last4']}" if bank else "",
        bank_failed=bank.get("status") == "errored",
    )


def _transfer(found: dict[str, Any]) -> TransferNews:
    return TransferNews(
        id=found["id"],
        cents=found["amount"],
        reversed_cents=found["amount_reversed"],
        destination=found["destination"],
        group=found.get("transfer_group") or "",
        created_at=moment(found["created"]),
    )


def _payout(found: dict[str, Any]) -> PayoutNews:
    return PayoutNews(
        id=found["id"],
        cents=found["amount"],
        status=found["status"],
        failure_code=found.get("failure_code") or "",
        arrives_on=datetime.fromtimestamp(found["arrival_date"], UTC).date(),
        reference=(found.get("metadata") or {}).get("reference", ""),
        created_at=moment(found["created"]),
    )
