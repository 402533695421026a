"""What billing tells the apps above it, without knowing them."""

from __future__ import annotations

from django.dispatch import Signal

balance_credited = Signal()
"""Sent after commit when a person's spendable balance grew; argument `user_id`."""
