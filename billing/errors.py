"""What billing refuses, and what to do next."""

from __future__ import annotations

from interchain_site.core.errors import Busy, Conflict, DomainError


class Unbalanced(DomainError):
    """The lines of a posting do not sum to zero per currency, or name no real account: a bug of the caller."""

    code, status = "unbalanced", 500
    message = "The entries of a transaction must sum to zero in each currency."


class IdempotencyConflict(Conflict):
    code = "idempotency_conflict"
    message = "This key was already used for something else. Use a new key."


class InsufficientFunds(DomainError):
    """An account that may not be negative would be.

    Attributes:
        account_id: the account.
        key: the posting that could not be made.
    """

    code, status = "insufficient_funds", 402
    message = "The balance does not cover this. Buy NTC, then try again."

    def __init__(self, message: str | None = None, *, account_id: int = 0, key: str = "") -> None:
        super().__init__(message)
        self.account_id, self.key = account_id, key


class LedgerBusy(Busy):
    code = "ledger_busy"
    message = "The ledger is busy with the same accounts. Try again in a moment."


class NoRate(DomainError):
    code, status, permanent = "no_rate", 503, False
    message = "No NTC price is set yet. Staff set it in the admin under Desk rates."


class DeskOut(DomainError):
    code, status, permanent = "desk_out", 409, False
    message = "The desk has no NTC left to sell. Come back later."


class QuoteExpired(DomainError):
    code, status = "quote_expired", 409
    message = "This price was locked for a while and the time is over. Ask for a new quote."


class CheckoutRefused(Conflict):
    code = "checkout_refused"
    message = "Several payments of yours are not finished. Finish one, or wait until their prices are no longer locked."


class PaymentRefused(DomainError):
    code, status = "payment_refused", 409
    message = "This payment cannot be changed like that."


class SaleRefused(DomainError):
    """The sale's rules, or the state of its rounds, do not allow this purchase now."""

    code, status = "sale_refused", 409
    message = "This cannot be bought in the token sale now."


class SaleSoldOut(SaleRefused):
    code = "sale_sold_out"
    message = "This round has no NTC left to sell. The next round, or the desk, may."


class CashOutRefused(Conflict):
    code = "cash_out_refused"
    message = "This cannot be cashed out now."


class DeskOutOfDollars(DomainError):
    code, status, permanent = "desk_out_of_dollars", 409, False
    message = "The desk has no US dollars left to pay out today. Your NTC stay with you; come back later."


class BankMissing(Conflict):
    code = "bank_missing"
    message = "Link a bank account first: Stripe asks for your details and pays you."
