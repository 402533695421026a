"""What Stripe's names mean for a person: what a bank said about a payout, and what Stripe still wants to know."""

from __future__ import annotations

from billing.models import ConnectAccount

_BANK = {
    "account_closed": "Your bank says this account is closed. Give Stripe another account, then cash out again.",
    "account_frozen": "Your bank says this account is frozen. Ask your bank, or give Stripe another account.",
    "bank_account_restricted": "Your bank restricts this account. Ask your bank, or give Stripe another account.",
    "bank_ownership_changed": "Your account moved to another bank. Give Stripe the new numbers, then cash out again.",
    "could_not_process": "Your bank could not process the payment. Try again, or give Stripe another account.",
    "debit_not_authorized": "Your bank does not allow this kind of payment. Give Stripe another account.",
    "declined": "Your bank declined the payment. Ask your bank, or give Stripe another account.",
    "incorrect_account_holder_name": "The name does not match your bank's. Correct it at Stripe, then cash out again.",
    "incorrect_account_holder_address": "The address does not match your bank's. Correct it at Stripe, then try again.",
    "insufficient_funds": "The dollars were not available in time. Try again.",
    "invalid_account_number": "Your bank does not know this account number. Correct it at Stripe, then cash out again.",
    "invalid_currency": "Your bank account does not take US dollars. Give Stripe one that does.",
    "no_account": "Your bank found no such account. Correct the numbers at Stripe, then cash out again.",
}

_WANTED = {
    "external_account": "a bank account",
    "individual.ssn_last_4": "the last digits of your ID number",
    "individual.id_number": "your ID number",
    "individual.verification.document": "a picture of your ID",
    "individual.dob": "your date of birth",
    "individual.first_name": "your name",
    "individual.last_name": "your name",
    "individual.address": "your address",
    "tos_acceptance": "that you accept Stripe's terms",
}


def bank_said(code: str) -> str:
    """Return what a failed payout means and what to do next."""
    return _BANK.get(code, "Your bank sent the money back. Look at your bank account at Stripe, then cash out again.")


def wanted(account: ConnectAccount) -> list[str]:
    """Return what Stripe still wants of a person, in words, each once."""
    found = [
        next((words for name, words in _WANTED.items() if wish.startswith(name)), "a few more details")
        for wish in account.wanted
    ]
    return [*dict.fromkeys(found)]


def standing(account: ConnectAccount | None) -> str:
    """Return how a person's bank link stands, as one word pages and the API use.

    `none`, `begun` (Stripe's questions are not answered), `checking`, `wanted` (Stripe wants something),
    `bank_failed`, `other_currency`, `rejected`, `ready`.
    """
    if account is None or account.stripe_id is None:
        return "none"
    if account.disabled_reason.startswith("rejected"):
        return "rejected"
    if not account.submitted:
        return "begun"
    if account.payable:
        return "ready"
    if account.bank_failed:
        return "bank_failed"
    if account.wanted:
        return "wanted"
    if account.currency and account.currency != "usd":
        return "other_currency"
    return "checking"
