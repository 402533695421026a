"""Allowed moves of a payment and of a dispute, in one table each."""

from __future__ import annotations

from django.db import models

from interchain_site.core.states import check_move as check_move  # for the services, beside the tables


class PaymentState(models.TextChoices):
    CREATED = "created", "Being prepared"
    OPEN = "open", "Waiting for your card"
    PAID = "paid", "Paid"
    EXPIRED = "expired", "Not paid in time"
    REFUNDED = "refunded", "Refunded"


class DisputeState(models.TextChoices):
    SEEN = "seen", "Noted"
    OPEN = "open", "Disputed"
    WON = "won", "Won"
    LOST = "lost", "Lost"


class ReconcileOutcome(models.TextChoices):
    CLEAN = "clean", "All books agree"
    DIFFERENCE = "difference", "Differences"
    INCOMPLETE = "incomplete", "Not everything could be read"


class SalePurchaseState(models.TextChoices):
    AWAITING = "awaiting", "Waiting for your card"
    SENT = "sent", "Sent from your wallet"
    PAID = "paid", "Paid"
    ALLOCATING = "allocating", "Being written to Ethereum"
    DELIVERED = "delivered", "Delivered"
    EXPIRED = "expired", "Not paid in time"
    REFUNDING = "refunding", "Being paid back"
    REFUNDED = "refunded", "Paid back"
    FAILED = "failed", "Failed"


class SaleOrderState(models.TextChoices):
    ASKED = "asked", "Ordered"
    SENT = "sent", "Sent to Ethereum"
    DONE = "done", "Done"
    FAILED = "failed", "Refused by the contract"


class CashOutState(models.TextChoices):
    ASKED = "asked", "Waiting for your code"
    CONFIRMED = "confirmed", "Confirmed"
    RESERVED = "reserved", "Being sent"
    TRANSFERRED = "transferred", "At Stripe"
    ON_THE_WAY = "on_the_way", "On the way to your bank"
    PAID = "paid", "Paid"
    RETURNING = "returning", "Coming back"
    FAILED = "failed", "Failed, NTC given back"
    REFUSED = "refused", "Not possible"
    CANCELLED = "cancelled", "Cancelled"
    EXPIRED = "expired", "Not confirmed in time"


PAYMENT_MOVES: dict[str, set[str]] = {
    PaymentState.CREATED: {PaymentState.OPEN, PaymentState.PAID, PaymentState.EXPIRED},
    PaymentState.OPEN: {PaymentState.PAID, PaymentState.EXPIRED},
    PaymentState.PAID: {PaymentState.REFUNDED},
    PaymentState.EXPIRED: {PaymentState.PAID},  # paid in the same second it expired: Stripe has the last word
    PaymentState.REFUNDED: {PaymentState.PAID},  # the bank sent a refund back
}
DISPUTE_MOVES: dict[str, set[str]] = {
    DisputeState.SEEN: {DisputeState.OPEN, DisputeState.WON, DisputeState.LOST},
    DisputeState.OPEN: {DisputeState.WON, DisputeState.LOST},
    DisputeState.WON: set(),
    DisputeState.LOST: {DisputeState.WON},  # Stripe may overturn a lost dispute
}


SALE_PURCHASE_MOVES: dict[str, set[str]] = {
    SalePurchaseState.AWAITING: {SalePurchaseState.PAID, SalePurchaseState.EXPIRED},
    SalePurchaseState.EXPIRED: {SalePurchaseState.PAID},  # paid in the same second it expired: Stripe has the last word
    SalePurchaseState.PAID: {
        SalePurchaseState.ALLOCATING,
        SalePurchaseState.DELIVERED,  # the event was seen before our own row moved (a database restored)
        SalePurchaseState.REFUNDING,
        SalePurchaseState.REFUNDED,
    },
    SalePurchaseState.ALLOCATING: {
        SalePurchaseState.DELIVERED,
        SalePurchaseState.PAID,  # the contract refused the transaction: decide again
    },
    SalePurchaseState.REFUNDING: {SalePurchaseState.REFUNDED, SalePurchaseState.DELIVERED},
    # The bank sent the refund back, or a lost dispute was overturned.
    # Delivered: a transaction given up was mined all the same; its NTC are taken back on arrival.
    SalePurchaseState.REFUNDED: {SalePurchaseState.PAID, SalePurchaseState.DELIVERED},
    SalePurchaseState.SENT: {SalePurchaseState.DELIVERED, SalePurchaseState.FAILED},
    SalePurchaseState.FAILED: {SalePurchaseState.DELIVERED},  # given up too early; the event has the last word
    # Back: the chain lost a block that was deep enough.
    SalePurchaseState.DELIVERED: {SalePurchaseState.ALLOCATING, SalePurchaseState.PAID, SalePurchaseState.SENT},
}
SALE_ORDER_MOVES: dict[str, set[str]] = {
    SaleOrderState.ASKED: {SaleOrderState.SENT, SaleOrderState.DONE, SaleOrderState.FAILED},
    SaleOrderState.SENT: {SaleOrderState.DONE, SaleOrderState.FAILED, SaleOrderState.ASKED},
    SaleOrderState.DONE: {SaleOrderState.SENT},  # the chain lost its block
    SaleOrderState.FAILED: set(),
}

CASH_OUT_MOVES: dict[str, set[str]] = {
    CashOutState.ASKED: {CashOutState.CONFIRMED, CashOutState.CANCELLED, CashOutState.EXPIRED},
    CashOutState.CONFIRMED: {CashOutState.RESERVED, CashOutState.REFUSED, CashOutState.CANCELLED, CashOutState.EXPIRED},
    CashOutState.RESERVED: {CashOutState.TRANSFERRED, CashOutState.RETURNING},
    CashOutState.TRANSFERRED: {CashOutState.ON_THE_WAY, CashOutState.RETURNING},
    CashOutState.ON_THE_WAY: {CashOutState.PAID, CashOutState.RETURNING},
    CashOutState.PAID: {CashOutState.RETURNING},  # a bank may send money back days after it took it
    # A payout thought refused was made after all.
    CashOutState.RETURNING: {CashOutState.FAILED, CashOutState.ON_THE_WAY},
    CashOutState.FAILED: set(),
    CashOutState.REFUSED: set(),
    CashOutState.CANCELLED: set(),
    CashOutState.EXPIRED: set(),
}
