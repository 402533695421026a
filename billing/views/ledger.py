"""Reading one's own money: the statement, earnings by day, the balance."""

from __future__ import annotations

import csv

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from billing import money, queries, statement_lines
from billing.services import accounts
from billing.views.topups import person

CSV_ROWS = 100_000
CSV_COLUMNS = (
    "entry", "transaction", "effective_at", "posted_at", "kind", "memo", "reference", "ntc", "balance_ntc",
    "statement_sha256", "batches", "epoch", "ethereum_transaction",
)  # fmt: skip
TABS = {
    accounts.AVAILABLE: "Balance",
    accounts.EARNINGS_HELD: "Earnings in hold",
    accounts.EARNINGS_AVAILABLE: "Earnings free",
    accounts.SETTLED: "Settled",
    accounts.WITHDRAWING: "Withdrawing",
    accounts.CASHING_OUT: "Cashing out",
    accounts.FROZEN: "Frozen",
    accounts.SHORTFALL: "Owed",
}


@login_required
@require_GET
def ledger(request: HttpRequest) -> HttpResponse:
    """One account's entries, newest first; `before` pages on by the entry's id."""
    kind = _kind(request)
    page = queries.statement(person(request).pk, kind, before=_whole(request.GET.get("before", "")))
    tabs = [(key, label, key == kind) for key, label in TABS.items()]
    context = {
        "page": page,
        "lines": list(statement_lines.with_evidence(page.entries)),
        "tabs": tabs,
        "kind": kind,
        "balances": queries.balances(person(request).pk),
    }
    return render(request, "billing/ledger.html", context)


@login_required
@require_GET
def ledger_csv(request: HttpRequest) -> HttpResponse:
    """The same account as a CSV file: the newest 100,000 entries before `before`."""
    kind = _kind(request)
    before = _whole(request.GET.get("before", ""))
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="interchain-{kind}.csv"'
    writer = csv.writer(response)
    writer.writerow(CSV_COLUMNS)
    entries = queries.statement(person(request).pk, kind, before=before, size=CSV_ROWS).entries
    for line in statement_lines.with_evidence(entries):
        entry, of = line.entry, line.entry.transaction
        writer.writerow(
            [entry.pk, of.pk, of.effective_at.isoformat(), of.created_at.isoformat(), of.kind, _harmless(of.memo),
             _harmless(of.reference), money.plain_ntc(entry.amount), money.plain_ntc(entry.balance_after),
             line.sha256, " ".join(line.batches), line.epoch or "", line.transaction_hash]
        )  # fmt: skip
    return response


@login_required
@require_GET
def earnings(request: HttpRequest) -> HttpResponse:
    """What an owner earned: in hold, free, settled, and by day."""
    context = {
        "balances": queries.balances(person(request).pk),
        "days": queries.earnings_by_day(person(request).pk),
        "next_release": queries.next_release(person(request).pk),
        "unpaid": queries.unpaid_units(person(request).pk),
        "hold_seconds": settings.EARNINGS_HOLD_SECONDS,
    }
    return render(request, "billing/earnings.html", context)


@login_required
@require_GET
def balance(request: HttpRequest) -> HttpResponse:
    """Fragment: the person's balances as cards, for any page to show and refresh."""
    return render(request, "billing/_balance.html", {"balances": queries.balances(person(request).pk)})


def _kind(request: HttpRequest) -> str:
    kind = request.GET.get("account", accounts.AVAILABLE)
    return kind if kind in TABS else accounts.AVAILABLE


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 19 else None


def _harmless(text: str) -> str:
    """Keep a spreadsheet from taking words that others chose for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
