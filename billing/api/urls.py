from django.urls import path

from billing.api import money, sale, settlement, transfers, wallets

urlpatterns = [
    path("balance", money.BalanceView.as_view(), name="api_balance"),
    path("quotes", money.QuotesView.as_view(), name="api_quotes"),
    path("quotes/<uuid:quote_id>/checkout", money.CheckoutView.as_view(), name="api_checkout"),
    path("payments", money.PaymentsView.as_view(), name="api_payments"),
    path("payments/<uuid:payment_id>", money.PaymentView.as_view(), name="api_payment"),
    path("ledger", money.LedgerView.as_view(), name="api_ledger"),
    path("earnings", money.EarningsView.as_view(), name="api_earnings"),
    path("sale/rounds", sale.SaleRoundsView.as_view(), name="api_sale_rounds"),
    path("sale/quotes", sale.SaleQuotesView.as_view(), name="api_sale_quotes"),
    path("sale/calls", sale.SaleCallsView.as_view(), name="api_sale_calls"),
    path("sale/declaration", sale.SaleDeclarationView.as_view(), name="api_sale_declaration"),
    path("sale/purchases", sale.SalePurchasesView.as_view(), name="api_sale_purchases"),
    path("sale/purchases/<uuid:purchase_id>", sale.SalePurchaseView.as_view(), name="api_sale_purchase"),
    path("token", sale.TokenView.as_view(), name="api_token_facts"),
    path("epochs", settlement.EpochsView.as_view(), name="api_epochs"),
    path("epochs/<int:sequence>", settlement.EpochView.as_view(), name="api_epoch"),
    path("wallet", wallets.WalletView.as_view(), name="api_wallet"),
    path("wallet/challenge", wallets.ChallengeView.as_view(), name="api_wallet_challenge"),
    path("wallet/auto-claim", wallets.AutoClaimView.as_view(), name="api_auto_claim"),
    path("claims", wallets.ClaimsView.as_view(), name="api_claims"),
    path("claims/<int:claim_id>", wallets.ClaimView.as_view(), name="api_claim"),
    path("deposits", transfers.DepositsView.as_view(), name="api_deposits"),
    path("withdrawals", transfers.WithdrawalsView.as_view(), name="api_withdrawals"),
    path("withdrawals/<uuid:withdrawal_id>", transfers.WithdrawalView.as_view(), name="api_withdrawal"),
    path(
        "withdrawals/<uuid:withdrawal_id>/confirm",
        transfers.WithdrawalConfirmView.as_view(),
        name="api_withdrawal_confirm",
    ),
    path(
        "withdrawals/<uuid:withdrawal_id>/cancel",
        transfers.WithdrawalCancelView.as_view(),
        name="api_withdrawal_cancel",
    ),
]
