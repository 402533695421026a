"""Stored things of this app."""

from billing.models.desk import DeskRate, Quote
from billing.models.ledger import Account, Currency, EarningsDay, Entry, HeldEarning, Transaction
from billing.models.payment import Dispute, Payment, StripeEvent

__all__ = [
    "Account",
    "Currency",
    "DeskRate",
    "Dispute",
    "EarningsDay",
    "Entry",
    "HeldEarning",
    "Payment",
    "Quote",
    "StripeEvent",
    "Transaction",
]
