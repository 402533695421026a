"""Which accounts there are. An account comes into being at its first use; its id never changes."""

from __future__ import annotations

from collections.abc import Collection

from billing.models import Account

AVAILABLE = "available"
EARNINGS_HELD = "earnings_held"
EARNINGS_AVAILABLE = "earnings_available"
SETTLED = "settled"
WITHDRAWING = "withdrawing"
CASHING_OUT = "cashing_out"
FROZEN = "frozen"
SHORTFALL = "shortfall"

USER_KINDS = {AVAILABLE, EARNINGS_HELD, EARNINGS_AVAILABLE, SETTLED, WITHDRAWING, CASHING_OUT, FROZEN, SHORTFALL}
PLATFORM_KINDS = {
    "commission",
    "desk_inventory",
    "forfeited",
    "shortfall",
    "escrow",
    "treasury_external",
    "stripe_clearing",
    "payout_clearing",
    "desk_sales_usd",
    "sale_proceeds_usd",
    "stripe_fees",
    "company_usd",
    "disputed_usd",
    "unassigned_deposits",
}
# They mirror the outside world or hold a debt.
MAY_BE_NEGATIVE = {
    "escrow",
    "treasury_external",
    "stripe_clearing",
    "payout_clearing",
    "shortfall",
    "disputed_usd",
    "desk_sales_usd",  # the desk may have bought back more than it sold, with dollars the company added
    "stripe_fees",
    "company_usd",
}


def user_account(user_id: int, kind: str, currency: str = "NTC") -> int:
    """Return the id of a person's account."""
    return user_accounts([(user_id, kind)], currency)[user_id, kind]


def user_accounts(wanted: Collection[tuple[int, str]], currency: str = "NTC") -> dict[tuple[int, str], int]:
    """Return the ids of many people's accounts, `{(user_id, kind): id}`, with two queries at most four when some are new.

    Raises:
        ValueError: no such kind of account.
    """
    wanted = set(wanted)
    for _, kind in wanted:
        if kind not in USER_KINDS:
            raise ValueError(f"People have no {kind!r} account.")
    found = _find(wanted, currency)
    missing = sorted(wanted - found.keys())
    if missing:
        Account.objects.bulk_create(
            [
                Account(user_id=user_id, kind=kind, currency=currency, may_be_negative=kind in MAY_BE_NEGATIVE)
                for user_id, kind in missing
            ],
            ignore_conflicts=True,
        )
        found = _find(wanted, currency)
    return found


def platform_account(kind: str, currency: str = "NTC") -> int:
    """Return the id of one of the platform's accounts.

    Raises:
        ValueError: no such kind of account.
    """
    if kind not in PLATFORM_KINDS and not kind.startswith("sale_inventory:"):
        raise ValueError(f"The platform has no {kind!r} account.")
    query = Account.objects.filter(user=None, kind=kind, currency=currency).values_list("id", flat=True)
    found = query.first()
    if found is None:
        account = Account(kind=kind, currency=currency, may_be_negative=kind in MAY_BE_NEGATIVE)
        Account.objects.bulk_create([account], ignore_conflicts=True)
        found = query.get()
    return found


def _find(wanted: set[tuple[int, str]], currency: str) -> dict[tuple[int, str], int]:
    rows = Account.objects.filter(
        user_id__in={user_id for user_id, _ in wanted}, kind__in={kind for _, kind in wanted}, currency=currency
    ).values_list("user_id", "kind", "id")
    return {(user_id, kind): pk for user_id, kind, pk in rows if user_id is not None and (user_id, kind) in wanted}
