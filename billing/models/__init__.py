"""Stored things of this app."""

from billing.models.cash_out import CashOut, CashOutRules, ConnectAccount, StripeMovement
from billing.models.chain import ChainAttempt, ChainBlock, ChainCursor, ChainEvent, ChainSender, ChainTransaction
from billing.models.confirmation import Confirmation
from billing.models.desk import DeskRate, Quote
from billing.models.ledger import Account, Currency, EarningsDay, Entry, HeldEarning, Transaction
from billing.models.payment import Dispute, Payment, StripeEvent
from billing.models.reserves import ReconcileRun, ReserveLeaf, ReserveSnapshot
from billing.models.settlement import Claim, Epoch, PayoutLeaf, UsageDocument, UsageStatement
from billing.models.token_sale import (
    SaleAsset,
    SaleDeclaration,
    SaleOrder,
    SalePurchase,
    SaleRound,
    SaleRules,
    SaleTerms,
    TokenFacts,
)
from billing.models.wallet import AutoClaim, ChainAccount, Wallet, WalletChallenge, WalletProof
from billing.models.withdrawal import GasQuote, SentDeposit, UnassignedDeposit, Withdrawal

__all__ = [
    "Account",
    "AutoClaim",
    "CashOut",
    "CashOutRules",
    "ChainAccount",
    "ChainAttempt",
    "ChainBlock",
    "ChainCursor",
    "ChainEvent",
    "ChainSender",
    "ChainTransaction",
    "Claim",
    "Confirmation",
    "ConnectAccount",
    "Currency",
    "DeskRate",
    "Dispute",
    "EarningsDay",
    "Entry",
    "Epoch",
    "GasQuote",
    "HeldEarning",
    "Payment",
    "PayoutLeaf",
    "Quote",
    "ReconcileRun",
    "ReserveLeaf",
    "ReserveSnapshot",
    "SaleAsset",
    "SaleDeclaration",
    "SaleOrder",
    "SalePurchase",
    "SaleRound",
    "SaleRules",
    "SaleTerms",
    "SentDeposit",
    "StripeEvent",
    "StripeMovement",
    "TokenFacts",
    "Transaction",
    "UnassignedDeposit",
    "UsageDocument",
    "UsageStatement",
    "Wallet",
    "WalletChallenge",
    "WalletProof",
    "Withdrawal",
]
