"""Balance transactions: every cent that enters or leaves a balance, the platform's or a connected account's, with its fee."""

from __future__ import annotations

import time

from billing.stripe.standin.store import Object, Store, new_id

REPORTING = {
    "charge": "charge",
    "refund": "refund",
    "refund_failure": "refund_failure",
    "transfer": "transfer",
    "transfer_refund": "transfer_reversal",
    "payment": "charge",
    "payment_refund": "refund",
    "payout": "payout",
    "payout_failure": "payout_reversal",
    "topup": "topup",
}


class Balances:
    """Money in and out, over a store. `account` is a connected account's id, or empty for the platform."""

    def __init__(self, store: Store, *, available_after_seconds: float = 0) -> None:
        self.store = store
        self.available_after_seconds = available_after_seconds

    def record(
        self,
        kind: str,
        amount: int,
        source: str,
        *,
        fee: int = 0,
        category: str = "",
        account: str = "",
        text: str = "",
    ) -> Object:
        """Move `amount` cents (below zero: out) and take a fee; returns the balance transaction."""
        now = int(time.time())
        waits = amount > 0 and kind == "charge"  # cards take days; what moves inside Stripe is there at once
        details = [{"amount": fee, "application": None, "currency": "usd", "description": text, "type": "stripe_fee"}]
        return self.store.put(
            {
                "id": new_id("txn"),
                "object": "balance_transaction",
                "amount": amount,
                "available_on": now + int(self.available_after_seconds if waits else 0),
                "created": now,
                "currency": "usd",
                "description": text or None,
                "exchange_rate": None,
                "fee": fee,
                "fee_details": details if fee else [],
                "net": amount - fee,
                "reporting_category": category or REPORTING[kind],
                "source": source,
                "status": "available",
                "type": kind,
                "standin": {"account": account},
            }
        )

    def of(self, account: str = "") -> list[Object]:
        """Return an account's balance transactions, newest first, each with its status as of now."""
        now = time.time()
        rows = [row for row in self.store.all("balance_transaction") if row["standin"]["account"] == account]
        return [{**row, "status": "available" if row["available_on"] <= now else "pending"} for row in rows]

    def available(self, account: str = "") -> int:
        return sum(row["net"] for row in self.of(account) if row["status"] == "available")

    def shown(self, account: str = "") -> Object:
        """Return the balance as the API shows it."""
        rows = self.of(account)
        sums = {
            status: sum(row["net"] for row in rows if row["status"] == status) for status in ("available", "pending")
        }
        parts = {
            status: [{"amount": cents, "currency": "usd", "source_types": {"card": cents}}]
            for status, cents in sums.items()
        }
        return {"object": "balance", "livemode": False, **parts}
