from django.urls import path

from billing.stripe import webhooks
from billing.views import ledger, reserves, sale, settlement, topups

urlpatterns = [
    path("buy/", topups.buy_ntc, name="buy_ntc"),
    path("buy/price/", topups.price_preview, name="price_preview"),
    path("buy/<uuid:quote_id>/", topups.quote_detail, name="quote_detail"),
    path("payments/", topups.payments, name="payments"),
    path("payments/<uuid:payment_id>/", topups.payment_detail, name="payment_detail"),
    path("payments/<uuid:payment_id>/status/", topups.payment_status, name="payment_status"),
    path("sale/", sale.sale, name="sale"),
    path("sale/card/", sale.sale_card, name="sale_card"),
    path("sale/price/", sale.sale_price, name="sale_price"),
    path("sale/wallet/", sale.sale_wallet, name="sale_wallet"),
    path("sale/wallet/price/", sale.sale_wallet_price, name="sale_wallet_price"),
    path("sale/declare/", sale.sale_declare, name="sale_declare"),
    path("sale/purchases/", sale.purchases, name="sale_purchases"),
    path("sale/purchases/<uuid:purchase_id>/", sale.purchase, name="sale_purchase"),
    path("sale/purchases/<uuid:purchase_id>/status/", sale.purchase_status, name="sale_purchase_status"),
    path("token/", sale.token, name="token"),
    path("ledger/", ledger.ledger, name="ledger"),
    path("ledger/csv/", ledger.ledger_csv, name="ledger_csv"),
    path("earnings/", ledger.earnings, name="earnings"),
    path("balance/", ledger.balance, name="balance"),
    path("settlements/", settlement.settlements, name="settlements"),
    path("settlements/<int:sequence>/", settlement.settlement_detail, name="settlement_detail"),
    path("reserves/", reserves.reserves, name="reserves"),
    path("reserves/proof/", reserves.reserves_proof, name="reserves_proof"),
    path("reserves/interchain-verify.pyz", reserves.verifier, name="verifier"),
    path("wallet/", settlement.wallet, name="wallet"),
    path("wallet/status/", settlement.wallet_status, name="wallet_status"),
    path("wallet/enter/", settlement.wallet_enter, name="wallet_enter"),
    path("wallet/sign/", settlement.wallet_sign, name="wallet_sign"),
    path("wallet/<int:wallet_id>/claim/", settlement.wallet_claim, name="wallet_claim"),
    path("stripe/webhook", webhooks.webhook, name="stripe_webhook"),
]
