"""Whose money is where: ledger, NTC, desk, Stripe, Ethereum. Knows no apps and no devices."""
