"""Which named addresses are pages, and who is at home there; the test asks for a line about every name there is."""

from __future__ import annotations

from django.urls import URLPattern

import billing.urls
import interchain_site.core.urls
import marketplace.urls
import nodes.urls

EVERYBODY = ("publisher", "owner", "buyer", "staff", "stranger")
# Pages that belong to one person; the others are told there is nothing there.
OF_ONE = {
    "app_detail": "publisher",
    "app_data": "publisher",
    "app_deploy": "publisher",
    "release_new": "publisher",
    "device_detail": "owner",
    "device_limits": "owner",
    "quote_detail": "buyer",
    "payment_detail": "buyer",
    "cash_out_detail": "owner",
    "sale_purchase": "buyer",
    "withdrawal_detail": "publisher",
}
# Pages everybody has, each with their own content.
OF_EVERYBODY = (
    "account_home", "apps", "app_new", "api_token", "prices", "buy_ntc", "payments", "ledger", "earnings", "devices",
    "device_new", "settlements", "settlement_detail", "wallet",
    "cash_out", "sale", "sale_purchases", "token", "reserves", "status", "deposit", "withdraw", "wallet_stop",
)  # fmt: skip
# Not pages: fragments, orders, files, answers to machines, redirects.
OTHER = {
    "home": "redirects to the apps",
    "healthz": "for load balancers",
    "app_status": "fragment",
    "app_estimate": "fragment",
    "app_action": "takes orders",
    "domain_action": "takes orders",
    "app_scale": "takes orders",
    "snapshot_take": "takes orders",
    "snapshot_restore": "takes orders",
    "snapshot_interval": "takes orders",
    "snapshot_download": "a file",
    "snapshot_key": "a file",
    "directory_suspect": "for programs",
    "directory_resolve": "for programs",
    "directory_trust": "for programs",
    "directory_nodes": "for programs",
    "price_preview": "fragment",
    "payment_status": "fragment",
    "balance": "fragment",
    "sale_card": "takes orders",
    "sale_price": "fragment",
    "sale_wallet": "answers the wallet's script",
    "sale_wallet_price": "fragment",
    "sale_declare": "takes orders",
    "sale_purchase_status": "fragment",
    "ledger_csv": "file",
    "bill_proof": "file",
    "reserves_proof": "file",
    "verifier": "file",
    "price_list_document": "file",
    "stripe_webhook": "for Stripe",
    "cash_out_price": "fragment",
    "cash_out_status": "fragment",
    "cash_out_bank": "leads to Stripe",
    "cash_out_stripe": "leads to Stripe",
    "cash_out_code": "takes orders",
    "cash_out_passkey": "takes orders",
    "cash_out_cancel": "takes orders",
    "wallet_status": "fragment",
    "wallet_connect": "answers the wallet's script",
    "wallet_text": "takes orders",
    "wallet_auto": "takes orders",
    "wallet_claim_self": "answers the wallet's script",
    "deposit_status": "fragment",
    "deposit_wallet": "answers the wallet's script",
    "withdrawal_status": "fragment",
    "withdrawal_code": "takes orders",
    "withdrawal_passkey": "redirects to the passkey's page",
    "withdrawal_cancel": "takes orders",
    "wallet_sign": "takes orders",
    "wallet_enter": "takes orders",
    "wallet_claim": "takes orders",
    "device_status": "fragment",
    "device_token": "takes orders",
    "device_pause": "takes orders",
    "device_drain": "takes orders",
    "device_key": "takes orders",
    "device_resume": "takes orders",
    "device_revoke": "takes orders",
    "agent_archive": "file",
    "install_script": "file",
    "tls_ask": "for the gateway",
}


def names() -> set[str]:
    """Return every name in the urlconfs of the site's own apps."""
    modules = (interchain_site.core.urls, marketplace.urls, billing.urls, nodes.urls)
    patterns = [pattern for module in modules for pattern in module.urlpatterns if isinstance(pattern, URLPattern)]
    return {pattern.name for pattern in patterns if pattern.name}
