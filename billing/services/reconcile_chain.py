"""The ledger against the contracts. What is on its way is explained; what is left over is a difference."""

from __future__ import annotations

from datetime import datetime

from billing import money, queries
from billing.chain.errors import ChainError, NotDeployed
from billing.chain.states import ClaimState, EventState
from billing.chain.types import Chain
from billing.models import ChainEvent, Claim
from billing.services import chain_books, chain_events
from billing.services.chain_books import ChainBooks
from billing.services.reconcile_findings import Check

LOOKS = 3  # a block that comes between two looks is no difference


def contracts(*, chain: Chain | None, now: datetime, unread: str = "") -> Check:
    """Compare escrow with deposits and payments, booked and on the chain, and with the tokens that are there."""
    check = Check("ledger = contracts")
    if chain is None:
        check.unread = unread or "The Ethereum node could not be asked."
        return check
    try:
        books = _read(chain, now)
    except NotDeployed as error:
        mirrored = -queries.platform_balance("escrow")
        if mirrored:
            check.unread = f"The ledger has {money.format_ntc(mirrored)} in escrow. {error.message}"
        else:
            check.facts.append("no contracts yet, and nothing in escrow")
        return check
    except ChainError as error:
        check.unread = error.message
        return check
    _compare(check, books, -queries.platform_balance("escrow"))  # read after the look, which may have booked more
    _explain(check, books)
    return check


def _read(chain: Chain, now: datetime) -> ChainBooks:
    """Look until the watcher has seen everything up to the block looked at."""
    for look in range(LOOKS):
        chain_events.watch(chain=chain, now=now)
        books = chain_books.read(chain)
        if (books.arriving, books.leaving) == (books.seen_in, books.seen_out) or look == LOOKS - 1:
            return books
    raise AssertionError("unreachable")


def _compare(check: Check, books: ChainBooks, mirrored: int) -> None:
    booked = (books.deposited - books.arriving) - (books.paid - books.leaving)
    if mirrored != booked:
        check.differ(
            f"The ledger has {money.format_ntc(mirrored)} in escrow, but the booked events of the contract come to "
            f"{money.format_ntc(booked)}."
        )
    if books.arriving != books.seen_in:
        check.differ(
            f"The contract counts {money.format_ntc(books.arriving - books.seen_in)} of deposits more than there are events "
            "booked or on their way."
        )
    if books.leaving != books.seen_out:
        check.differ(
            f"The contract counts {money.format_ntc(books.leaving - books.seen_out)} of payments more than there are events "
            "booked or on their way."
        )
    missing = books.deposited - books.paid - books.held
    if missing > 0:
        check.differ(
            f"{money.format_ntc(missing)} are missing in the contract: it holds less than was deposited and not paid."
        )
    elif missing < 0:
        check.facts.append(
            f"{money.format_ntc(-missing)} were sent to the contract without a deposit; they are nobody's"
        )
    paid = sum(Claim.objects.filter(state=ClaimState.FINAL).values_list("units", flat=True))
    if paid != books.paid - books.leaving:
        check.differ(
            f"The claims on record come to {money.format_ntc(paid)}, the booked payments to "
            f"{money.format_ntc(books.paid - books.leaving)}."
        )


def _explain(check: Check, books: ChainBooks) -> None:
    check.facts.append(f"the contract holds {money.format_ntc(books.held)} at block {books.block.number:,}")
    for words, units in (("deposited", books.arriving), ("paid out", books.leaving)):
        if units:
            check.facts.append(f"{money.format_ntc(units)} {words}, not deep enough to be booked yet")
    waiting = ChainEvent.objects.filter(state=EventState.SEEN).exclude(error="").order_by("id")
    check.facts += [f"{event} cannot be booked: {event.error}" for event in waiting[:5]]
    under_way = Claim.objects.filter(state__in=[ClaimState.REQUESTED, ClaimState.SENT])
    if count := under_way.count():
        units = sum(under_way.values_list("units", flat=True))
        check.facts.append(f"{count} claims over {money.format_ntc(units)} are on their way to the chain")
