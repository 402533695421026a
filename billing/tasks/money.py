"""Periodic work of the ledger, the desk and Stripe."""
