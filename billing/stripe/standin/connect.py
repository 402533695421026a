"""What Stripe Connect knows of people: accounts, what is missing of them, their banks. No HTTP in here."""

from __future__ import annotations

import time

from billing.stripe.standin import banks
from billing.stripe.standin.engine import Engine
from billing.stripe.standin.errors import ApiError
from billing.stripe.standin.store import Object, new_id

LINK_SECONDS = 300
PROFILE = ["business_profile.url", "external_account", "individual.dob", "individual.first_name", "individual.last_name",
           "individual.ssn_last_4", "tos_acceptance.date"]  # fmt: skip
REFUSED_SSN = "1111"
PENDING_SSN = "2222"


class Connect:
    """The rules of accounts, over an engine. Every public method is one transaction of the caller's."""

    def __init__(self, engine: Engine, *, payout_after_seconds: float = 5) -> None:
        self.engine, self.store, self.balances = engine, engine.store, engine.balances
        self.payout_after_seconds = payout_after_seconds
        engine.due_actions["verify"] = self.verify

    def create_account(self, params: Object) -> Object:
        """Open an Express account that Stripe collects the requirements of."""
        controller = params["controller"]
        country = params.get("country", "US")
        if country not in banks.COUNTRIES:
            raise ApiError(
                f"{country} is not currently supported by Stripe.", code="country_unsupported", param="country"
            )
        schedule = params.get("settings", {}).get("payouts", {}).get("schedule", {})
        account: Object = {
            "id": new_id("acct"),
            "object": "account",
            "business_type": params.get("business_type"),
            "capabilities": {"transfers": "inactive"},
            "charges_enabled": False,
            "controller": {**controller, "type": "application", "is_controller": True},
            "country": country,
            "created": int(time.time()),
            "default_currency": banks.COUNTRIES[country].currency,
            "details_submitted": False,
            "email": params.get("email"),
            "external_accounts": {"object": "list", "data": [], "has_more": False, "total_count": 0},
            "metadata": params.get("metadata", {}),
            "payouts_enabled": False,
            "requirements": _requirements(PROFILE, "requirements.past_due"),
            "settings": {"payouts": {"schedule": {"interval": "daily", **schedule}, "debit_negative_balances": True}},
            "tos_acceptance": {"date": None},
            "type": "express",
            "standin": {"number": "", "name": ""},
        }
        return self.store.put(account)

    def create_link(self, params: Object, base_url: str) -> Object:
        """Return a single-use way into the onboarding; who comes with an old one is sent to `refresh_url`."""
        account = self.engine.find(params["account"], "account")
        now = int(time.time())
        token = new_id("link")
        kept = {name: params[name] for name in ("refresh_url", "return_url")}
        self.store.put(
            {"id": token, "object": "account_link", "account": account["id"], "used": False, "expires_at": now + LINK_SECONDS, **kept}
        )  # fmt: skip
        url = f"{base_url}/setup/e/{account['id']}/{token}"
        return {"object": "account_link", "created": now, "expires_at": now + LINK_SECONDS, "url": url}

    def create_login_link(self, account_id: str, base_url: str) -> Object:
        """Return the way to a person's own dashboard."""
        account = self.engine.find(account_id, "account")
        if not account["details_submitted"]:
            raise ApiError("Cannot create a login link for an account that has not completed onboarding.")
        token = new_id("login")
        self.store.put({"id": token, "object": "login_link", "account": account_id})
        return {"object": "login_link", "created": int(time.time()), "url": f"{base_url}/express/{account_id}/{token}"}

    def onboard(self, account_id: str, form: dict[str, str]) -> None:
        """Take what a person typed on the onboarding page, already checked, and begin to verify it."""
        account = self.engine.find(account_id, "account")
        account.update(details_submitted=True, country=form.get("country", account["country"]))
        account["default_currency"] = banks.COUNTRIES[account["country"]].currency
        account["tos_acceptance"] = {"date": int(time.time())}
        account["standin"].update(name=form["name"], ssn=form["ssn"])
        self.store.put(account)
        self.set_bank(account_id, form["routing"], form["number"])
        if form["ssn"] == PENDING_SSN:
            self.settle_account(account_id, pending=["individual.verification.document"])
            self.store.later(account_id, time.time() + self.payout_after_seconds, "verify")
        else:
            self.verify(account_id)

    def verify(self, account_id: str) -> None:
        """Finish verifying a person: refused for the test number 1111, else done."""
        refused = self.engine.find(account_id, "account")["standin"].get("ssn") == REFUSED_SSN
        self.settle_account(account_id, due=["individual.ssn_last_4"] if refused else [])

    def set_bank(self, account_id: str, routing: str, number: str) -> None:
        """Set or replace the bank account payouts go to."""
        account = self.engine.find(account_id, "account")
        currency = banks.COUNTRIES[account["country"]].currency
        bank: Object = {
            "id": new_id("ba"),
            "object": "bank_account",
            "account": account_id,
            "available_payout_methods": ["standard"],
            "bank_name": "STRIPE TEST BANK",
            "country": account["country"],
            "currency": currency,
            "default_for_currency": True,
            "last4": number[-4:],
            "routing_number": routing,
            "status": "new",
        }
        account["external_accounts"].update(data=[bank], total_count=1)
        account["standin"]["number"] = number
        self.store.put(account)
        self.engine.event("account.external_account.updated", bank, account_id)
        if account["details_submitted"] and account["requirements"]["currently_due"] == ["external_account"]:
            self.settle_account(account_id)

    def reject(self, account_id: str) -> None:
        """Stripe closes the account for fraud."""
        self.settle_account(account_id, due=["rejected"], reason="rejected.fraud")

    def settle_account(
        self, account_id: str, *, due: list[str] | None = None, pending: list[str] | None = None, reason: str = ""
    ) -> None:
        """Write what is missing of an account, and whether it may be paid, and tell."""
        account = self.engine.find(account_id, "account")
        enabled = not due and not pending
        wanted = reason or ("requirements.past_due" if due else "requirements.pending_verification" if pending else "")
        account["requirements"] = _requirements(due or [], wanted, pending or [])
        account["payouts_enabled"] = enabled
        account["capabilities"]["transfers"] = "active" if enabled or due == ["external_account"] else "inactive"
        self.store.put(account)
        self.engine.event("account.updated", account, account_id)


def _requirements(due: list[str], reason: str, pending: list[str] | None = None) -> Object:
    errors: list[Object] = []
    if due == ["individual.ssn_last_4"]:
        text = "The name or the number could not be verified. Correct them and try again."
        errors = [{"code": "verification_failed_keyed_identity", "reason": text, "requirement": due[0]}]
    return {
        "alternatives": [],
        "current_deadline": None,
        "currently_due": due,
        "disabled_reason": reason or None,
        "errors": errors,
        "eventually_due": due,
        "past_due": due,
        "pending_verification": pending or [],
    }
