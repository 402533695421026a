"""The money side of metering: publishers pay, owners earn, the hold watches. Knows no apps and no devices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from billing.errors import IdempotencyConflict
from billing.models import Account, Entry, HeldEarning, Transaction
from billing.services import accounts, ledger
from billing.services.accounts import AVAILABLE, EARNINGS_AVAILABLE, EARNINGS_HELD, SHORTFALL
from billing.services.ledger import Line, Posting
from interchain_site.core import audit
from interchain_site.core.errors import Conflict, NotFound
from interchain_site.core.models import User

KIND = "usage_charge"


@dataclass(frozen=True, slots=True)
class UsageCharge:
    """What one lease used: the owner's part and the platform's part, in base units; the publisher pays both.

    `effective_at` is when the use ended: the owner's hold counts from there.
    """

    key: str
    publisher_id: int
    owner_id: int
    owner_units: int
    commission_units: int
    effective_at: datetime
    reference: str
    memo: str = ""


@dataclass(frozen=True, slots=True)
class ChargeResult:
    """What the publisher's balance covered, and what it did not, in base units."""

    key: str
    paid_units: int
    shortfall_units: int


def charge_usage(*, charges: Sequence[UsageCharge], now: datetime) -> list[ChargeResult]:
    """Charge publishers and pay owners, in order and together; returns a result for each charge.

    The owner is paid in full. What the publisher's `available` does not cover is taken from the publisher's `shortfall`
    account, which goes negative: the person owes it, and the next money in repays it first. A charge whose key was
    made before is not made again; its first result is returned. A charge of nothing is not written at all.

    Raises:
        IdempotencyConflict: a key was used before for other amounts or people.
        LedgerBusy: try the same call again.
    """
    asked, charges = charges, [*dict.fromkeys(charges)]
    if len({charge.key for charge in charges}) != len(charges):
        raise IdempotencyConflict("A key stands twice in one call, for different charges.")
    with transaction.atomic():
        book = _Book(charges)
        balances = {pk: row.balance for pk, row in ledger.lock_accounts(book.lockable()).items()}
        results = _made_before(charges, book)  # after locking: nobody else can be making the same charges now
        fresh = [charge for charge in charges if charge.key not in results]
        postings = []
        for charge in fresh:
            results[charge.key], lines = book.split(charge, balances)
            if lines:
                postings.append(Posting(charge.key, KIND, lines, charge.effective_at, charge.memo, charge.reference))
        ledger.post(postings=postings, now=now)
        _remember_earnings(fresh, results, book)
    return [results[charge.key] for charge in asked]


def release_matured_earnings(*, now: datetime) -> int:
    """Move earnings whose hold is over to `earnings_available`; returns the base units moved. Safe to repeat.

    What the owner owes the platform (`shortfall`) is repaid first. Earnings nobody paid for yet stay held until their
    publisher owes nothing (`HeldEarning.unpaid`), so that no more can leave than was paid in.
    """
    cutoff = now - timedelta(seconds=settings.EARNINGS_HOLD_SECONDS)
    matured = _free_to_leave(HeldEarning.objects.filter(effective_at__lte=cutoff))
    released = 0
    for user_id, account_id in matured.values_list("account__user_id", "account_id").distinct().order_by("account_id"):
        released += _release(user_id=user_id, account_id=account_id, cutoff=cutoff, now=now)
    return released


def reverse_charge(*, transaction_id: int, key: str, by: User | None, memo: str, now: datetime | None = None) -> int:
    """Give a charge back to the publisher while the owner's part is still held; returns the new transaction's id.

    Raises:
        NotFound: there is no such charge.
        Conflict: the hold is over, or it was reversed before under another key.
    """
    now = now or timezone.now()
    with transaction.atomic():
        original = Transaction.objects.filter(pk=transaction_id, kind=KIND).first()
        if original is None:
            raise NotFound("There is no such charge.")
        entries = list(original.entries.select_related("account").order_by("id"))
        ledger.lock_accounts({entry.account_id for entry in entries})
        done = Transaction.objects.filter(key=key).exists()
        payers = {entry.account.user_id for entry in entries if entry.account.kind in (AVAILABLE, SHORTFALL)}
        paid = -sum(entry.amount for entry in entries if entry.account.kind == AVAILABLE)
        for entry in entries:
            if entry.account.kind == EARNINGS_HELD and not done:
                _take_from_hold(entry, original.effective_at, publisher_ids=payers, paid=paid)
        return ledger.reverse_entries(original=original, entries=entries, key=key, by=by, memo=memo, now=now)


@transaction.atomic
def let_go_unpaid(*, held_ids: Sequence[int], by: User) -> int:
    """Release earnings though their publisher still owes them: the platform bears the loss. Returns the base units.

    They leave with the next `release_matured_earnings`, once their hold is over.
    """
    rows = {}
    for row in HeldEarning.objects.select_for_update().filter(pk__in=held_ids, unpaid=True).order_by("id"):
        rows[row.pk] = row.units
        paid, created = HeldEarning.objects.get_or_create(
            account_id=row.account_id,
            effective_at=row.effective_at,
            publisher_id=row.publisher_id,
            unpaid=False,
            defaults={"units": row.units},
        )
        if not created:
            HeldEarning.objects.filter(pk=paid.pk).update(units=paid.units + row.units)
        row.delete()
        audit.record(
            "unpaid_earnings_let_go",
            subject=f"account:{row.account_id}",
            by=by,
            units=row.units,
            publisher=row.publisher_id,
        )
    return sum(rows.values())


class _Book:
    """The account ids a batch of charges needs, looked up once."""

    def __init__(self, charges: Sequence[UsageCharge]) -> None:
        people = {(charge.publisher_id, kind) for charge in charges for kind in (AVAILABLE, SHORTFALL)}
        people |= {(charge.owner_id, EARNINGS_HELD) for charge in charges}
        self.ids = accounts.user_accounts(people)
        self.commission = accounts.platform_account("commission")

    def lockable(self) -> set[int]:
        return {*self.ids.values(), self.commission}

    def split(self, charge: UsageCharge, balances: dict[int, int]) -> tuple[ChargeResult, tuple[Line, ...]]:
        """Return who pays how much of a charge, given the balances, which it moves on."""
        if charge.owner_units < 0 or charge.commission_units < 0:
            raise ValueError("A charge is not negative; give money back with reverse_charge.")
        payer = self.ids[charge.publisher_id, AVAILABLE]
        total = charge.owner_units + charge.commission_units
        paid = min(total, balances[payer])
        balances[payer] -= paid
        lines = (
            Line(payer, -paid),
            Line(self.ids[charge.publisher_id, SHORTFALL], paid - total),
            Line(self.ids[charge.owner_id, EARNINGS_HELD], charge.owner_units),
            Line(self.commission, charge.commission_units),
        )
        return ChargeResult(charge.key, paid, total - paid), tuple(line for line in lines if line.amount)


def _made_before(charges: Sequence[UsageCharge], book: _Book) -> dict[str, ChargeResult]:
    amounts: dict[str, dict[int, int]] = defaultdict(dict)
    rows = Entry.objects.filter(transaction__key__in=[charge.key for charge in charges])
    for key, account_id, amount in rows.values_list("transaction__key", "account_id", "amount"):
        amounts[key][account_id] = amount
    results = {}
    for charge in charges:
        if (stored := amounts.get(charge.key)) is None:
            continue
        paid = -stored.get(book.ids[charge.publisher_id, AVAILABLE], 0)
        short = -stored.get(book.ids[charge.publisher_id, SHORTFALL], 0)
        owner = stored.get(book.ids[charge.owner_id, EARNINGS_HELD], 0)
        same = (owner, stored.get(book.commission, 0)) == (charge.owner_units, charge.commission_units)
        if not same or paid + short != charge.owner_units + charge.commission_units:
            raise IdempotencyConflict(f"The charge {charge.key} was made before with other amounts.")
        results[charge.key] = ChargeResult(charge.key, paid, short)
    return results


def _remember_earnings(charges: Sequence[UsageCharge], results: dict[str, ChargeResult], book: _Book) -> None:
    held: dict[tuple[int, datetime, int, bool], int] = defaultdict(int)
    days: dict[tuple[int, date], int] = defaultdict(int)
    for charge in charges:
        account_id = book.ids[charge.owner_id, EARNINGS_HELD]
        for unpaid, units in _parts(charge.owner_units, results[charge.key].paid_units).items():
            held[account_id, charge.effective_at, charge.publisher_id, unpaid] += units
        if charge.owner_units:
            days[charge.owner_id, charge.effective_at.date()] += charge.owner_units
    as_text = connection.ops.adapt_datetimefield_value
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO billing_heldearning (account_id, effective_at, publisher_id, unpaid, units)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (account_id, effective_at, publisher_id, unpaid)"
            " DO UPDATE SET units = billing_heldearning.units + excluded.units",
            [
                (account_id, as_text(moment), publisher_id, unpaid, units)
                for (account_id, moment, publisher_id, unpaid), units in sorted(held.items())
            ],
        )
    _add_to_days(days)


def _parts(owner_units: int, paid_units: int) -> dict[bool, int]:
    """Return an owner's part by whether it is still unpaid: what the publisher paid goes to the owner before the platform."""
    paid = min(owner_units, paid_units)
    return {unpaid: units for unpaid, units in ((False, paid), (True, owner_units - paid)) if units}


def _free_to_leave(held: QuerySet[HeldEarning]) -> QuerySet[HeldEarning]:
    owing = Account.objects.filter(kind=SHORTFALL, balance__lt=0, user__isnull=False)
    return held.exclude(unpaid=True, publisher__in=owing.values("user"))


def _add_to_days(days: dict[tuple[int, date], int]) -> None:
    as_text = connection.ops.adapt_datefield_value
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO billing_earningsday (user_id, day, units) VALUES (%s, %s, %s)"
            " ON CONFLICT (user_id, day) DO UPDATE SET units = billing_earningsday.units + excluded.units",
            [(user_id, as_text(day), units) for (user_id, day), units in sorted(days.items())],
        )


def _release(*, user_id: int, account_id: int, cutoff: datetime, now: datetime) -> int:
    ids = accounts.user_accounts([(user_id, EARNINGS_AVAILABLE), (user_id, SHORTFALL)])
    debt_id = ids[user_id, SHORTFALL]
    with transaction.atomic():
        locked = ledger.lock_accounts({account_id, *ids.values()})
        matured = HeldEarning.objects.filter(account_id=account_id, effective_at__lte=cutoff)
        held = list(_free_to_leave(matured).order_by("id"))
        units = sum(row.units for row in held)
        if not units:
            return 0
        repaid = min(units, -locked[debt_id].balance) if locked[debt_id].balance < 0 else 0
        lines = (
            Line(account_id, -units),
            Line(debt_id, repaid),
            Line(ids[user_id, EARNINGS_AVAILABLE], units - repaid),
        )
        # Each row is released once and ids are never used again, so the newest id names this release.
        key = f"release:{account_id}:{held[-1].pk}"
        kept = tuple(line for line in lines if line.amount)
        ledger.post(postings=[Posting(key, "earnings_released", kept, now, reference=f"user:{user_id}")], now=now)
        HeldEarning.objects.filter(pk__in=[row.pk for row in held]).delete()
    return units


def _take_from_hold(entry: Entry, effective_at: datetime, *, publisher_ids: Collection[int | None], paid: int) -> None:
    for unpaid, units in _parts(entry.amount, paid).items():
        row = HeldEarning.objects.filter(
            account_id=entry.account_id, effective_at=effective_at, publisher__in=publisher_ids, unpaid=unpaid
        ).first()
        if row is None or row.units < units:
            raise Conflict("The hold of these earnings is over; they can no longer be taken back.")
        if row.units == units:
            row.delete()
        else:
            HeldEarning.objects.filter(pk=row.pk).update(units=row.units - units)
    user_id = entry.account.user_id
    if user_id is not None:
        _add_to_days({(user_id, effective_at.date()): -entry.amount})
