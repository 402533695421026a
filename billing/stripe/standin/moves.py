"""What Stripe Connect does with money: transfers to people's accounts and back, payouts to banks. No HTTP in here."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

from billing.stripe.standin import banks
from billing.stripe.standin.connect import Connect
from billing.stripe.standin.engine import Engine
from billing.stripe.standin.errors import ApiError
from billing.stripe.standin.store import Object, new_id


class Moves(Connect):
    """The rules of Connect's money, over those of its accounts."""

    def __init__(self, engine: Engine, *, payout_after_seconds: float = 5) -> None:
        super().__init__(engine, payout_after_seconds=payout_after_seconds)
        engine.due_actions["arrive"] = self.arrive

    def transfer(self, params: Object) -> Object:
        """Move dollars from the platform's balance to a connected account's."""
        account = self.engine.find(params["destination"], "account")
        amount = _cents(params)
        if account["capabilities"]["transfers"] != "active":
            message = (
                "Your destination account needs to have at least one of the following capabilities enabled: transfers"
            )
            raise ApiError(message, code="insufficient_capabilities_for_transfer", kept=True)
        if amount > self.balances.available():
            message = "You have insufficient available funds in your Stripe account."
            raise ApiError(message, code="balance_insufficient", kept=True)
        transfer_id, payment_id = new_id("tr"), new_id("py")
        moved = self.balances.record("transfer", -amount, transfer_id)
        self.balances.record("payment", amount, payment_id, account=account["id"])
        transfer: Object = {
            "id": transfer_id,
            "object": "transfer",
            "amount": amount,
            "amount_reversed": 0,
            "balance_transaction": moved["id"],
            "created": int(time.time()),
            "currency": "usd",
            "description": params.get("description"),
            "destination": account["id"],
            "destination_payment": payment_id,
            "livemode": False,
            "metadata": params.get("metadata", {}),
            "reversals": {"object": "list", "data": [], "has_more": False, "url": f"/v1/transfers/{transfer_id}/reversals"},
            "reversed": False,
            "source_type": "card",
            "transfer_group": params.get("transfer_group"),
        }  # fmt: skip
        self.engine.event("transfer.created", transfer)
        return self.store.put(transfer)

    def reverse(self, transfer_id: str, params: Object) -> Object:
        """Bring a transfer back, as far as the connected account's balance allows."""
        transfer = self.engine.find(transfer_id, "transfer")
        left = transfer["amount"] - transfer["amount_reversed"]
        amount = int(params.get("amount", left))
        if not 0 < amount <= left:
            raise ApiError("This transfer has already been fully reversed.", code="transfer_already_reversed")
        if amount > self.balances.available(transfer["destination"]):
            message = "The recipient's available balance is less than the amount to reverse."
            raise ApiError(message, code="balance_insufficient", kept=True)
        reversal_id = new_id("trr")
        self.balances.record(
            "payment_refund", -amount, transfer["destination_payment"], account=transfer["destination"]
        )
        moved = self.balances.record("transfer_refund", amount, reversal_id)
        reversal: Object = {
            "id": reversal_id,
            "object": "transfer_reversal",
            "amount": amount,
            "balance_transaction": moved["id"],
            "created": int(time.time()),
            "currency": "usd",
            "metadata": params.get("metadata", {}),
            "transfer": transfer_id,
        }
        transfer["amount_reversed"] += amount
        transfer["reversed"] = transfer["amount_reversed"] == transfer["amount"]
        transfer["reversals"]["data"].append(reversal)
        self.store.put(transfer)
        self.engine.event("transfer.reversed", transfer)
        return self.store.put(reversal)

    def payout(self, params: Object, account_id: str) -> Object:
        """Send dollars from a balance to its bank: a connected account's, or the platform's own."""
        amount = _cents(params)
        number, bank = "", "ba_platform"
        if account_id:
            account = self.engine.find(account_id, "account")
            if not account["payouts_enabled"]:
                raise ApiError(
                    "Cannot create payouts: this account is not enabled for them.", code="payouts_not_allowed"
                )
            number, bank = account["standin"]["number"], account["external_accounts"]["data"][0]["id"]
        if amount > self.balances.available(account_id):
            message = "You have insufficient funds in your Stripe account for this transfer."
            raise ApiError(message, code="balance_insufficient", kept=True)
        payout_id = new_id("po")
        moved = self.balances.record("payout", -amount, payout_id, account=account_id)
        payout: Object = {
            "id": payout_id,
            "object": "payout",
            "amount": amount,
            "arrival_date": _arrival(datetime.now(UTC).date()),
            "automatic": False,
            "balance_transaction": moved["id"],
            "created": int(time.time()),
            "currency": "usd",
            "description": params.get("description"),
            "destination": bank,
            "failure_balance_transaction": None,
            "failure_code": None,
            "failure_message": None,
            "livemode": False,
            "metadata": params.get("metadata", {}),
            "method": "standard",
            "source_type": "card",
            "statement_descriptor": params.get("statement_descriptor"),
            "status": "in_transit",
            "type": "bank_account",
            "standin": {"account": account_id, "failure": banks.failure_of(number)},
        }
        self.store.put(payout)
        self.engine.event("payout.created", payout, account_id)
        self.store.later(payout_id, time.time() + self.payout_after_seconds, "arrive")
        return payout

    def arrive(self, payout_id: str) -> None:
        """A payout reaches its bank, or the bank refuses it."""
        payout = self.engine.find(payout_id, "payout")
        if payout["status"] != "in_transit":
            return
        if payout["standin"]["failure"]:
            self.bounce(payout_id, payout["standin"]["failure"])
            return
        payout["status"] = "paid"
        self.store.put(payout)
        self.engine.event("payout.paid", payout, payout["standin"]["account"])

    def bounce(self, payout_id: str, code: str = "could_not_process") -> None:
        """The bank sends a payout back, on the way or days after it was paid; its account may not be used again."""
        payout = self.engine.find(payout_id, "payout")
        if payout["status"] not in ("in_transit", "paid"):
            raise ApiError("This payout is not on its way and was not paid.")
        account_id = payout["standin"]["account"]
        back = self.balances.record("payout_failure", payout["amount"], payout_id, account=account_id)
        payout.update(
            status="failed",
            failure_code=code,
            failure_message=banks.MESSAGES[code],
            failure_balance_transaction=back["id"],
        )
        self.store.put(payout)
        self.engine.event("payout.failed", payout, account_id)
        if account_id:
            account = self.engine.find(account_id, "account")
            account["external_accounts"]["data"][0]["status"] = "errored"
            self.store.put(account)
            self.settle_account(account_id, due=["external_account"])

    def top_up(self, amount: int) -> Object:
        """The company adds dollars to its own balance."""
        topup: Object = {
            "id": new_id("tu"),
            "object": "topup",
            "amount": amount,
            "created": int(time.time()),
            "currency": "usd",
            "status": "succeeded",
        }
        topup["balance_transaction"] = self.balances.record("topup", amount, topup["id"])["id"]
        self.engine.event("topup.succeeded", topup)
        return self.store.put(topup)


def _cents(params: Object) -> int:
    try:
        amount = int(params["amount"])
    except ValueError:
        raise ApiError("Invalid integer: " + str(params["amount"]), param="amount") from None
    if amount < 1:
        raise ApiError("This value must be greater than or equal to 1.", param="amount")
    if params["currency"] != "usd":
        raise ApiError("This stand-in knows US dollars only.", param="currency")
    return amount


def _arrival(day: date) -> int:
    """Two business days later, as a bank takes."""
    left: Any = 2
    while left:
        day += timedelta(days=1)
        left -= day.weekday() < 5
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
