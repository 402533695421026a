"""Stripe's published test bank accounts and what a payout to each of them does (docs.stripe.com/connect/testing)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Country:
    """Where a bank is: its name, its currency, what its two numbers are called, and the test routing number."""

    name: str
    currency: str
    routing_label: str
    account_label: str
    routing: str


COUNTRIES = {
    "US": Country("United States", "usd", "Routing number", "Account number", "110000000"),
    "CA": Country("Canada", "cad", "Transit and institution number", "Account number", "11000000"),
    "GB": Country("United Kingdom", "gbp", "Sort code", "Account number", "108800"),
}

# By the last digits, which the countries' test numbers have in common; anything else succeeds.
FAILURES = {
    "111111116": "no_account",
    "111111113": "account_closed",
    "222222227": "insufficient_funds",
    "333333335": "debit_not_authorized",
    "444444440": "invalid_currency",
    "11111116": "no_account",
    "11111113": "account_closed",
    "22222227": "insufficient_funds",
    "33333335": "debit_not_authorized",
    "44444440": "invalid_currency",
}

MESSAGES = {
    "no_account": "The bank account details on file are probably incorrect. No bank account could be located with those details.",
    "account_closed": "The bank account has been closed.",
    "insufficient_funds": "Your Stripe account has insufficient funds to cover the payout.",
    "debit_not_authorized": "Debit transactions are not approved on your bank account.",
    "invalid_currency": "The bank was unable to process this payout because of its currency.",
    "could_not_process": "The bank could not process this payout.",
}


def failure_of(number: str) -> str:
    """Return the failure code a payout to this account number ends with; empty when it succeeds."""
    return next((code for ending, code in FAILURES.items() if number.endswith(ending)), "")


def problems(country: str, routing: str, number: str) -> dict[str, str]:
    """Return what is wrong with typed bank details, by field."""
    found = {}
    known = COUNTRIES.get(country)
    if known is None:
        return {"country": "Choose one of the countries."}
    if routing != known.routing:
        found["routing"] = f"This page takes the test {known.routing_label.lower()} only: {known.routing}."
    if not number.isdigit() or not 6 <= len(number) <= 17:
        found["number"] = "Type the account number, digits only."
    elif number.startswith("0") is False and country == "US":
        found["number"] = "This page takes test account numbers only, such as 000123456789."
    return found
