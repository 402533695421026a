from django.urls import path

from billing.api import money, settlement

urlpatterns = [
    path("balance", money.BalanceView.as_view(), name="api_balance"),
    path("quotes", money.QuotesView.as_view(), name="api_quotes"),
    path("quotes/<uuid:quote_id>/checkout", money.CheckoutView.as_view(), name="api_checkout"),
    path("payments", money.PaymentsView.as_view(), name="api_payments"),
    path("payments/<uuid:payment_id>", money.PaymentView.as_view(), name="api_payment"),
    path("ledger", money.LedgerView.as_view(), name="api_ledger"),
    path("earnings", money.EarningsView.as_view(), name="api_earnings"),
    path("epochs", settlement.EpochsView.as_view(), name="api_epochs"),
    path("epochs/<int:sequence>", settlement.EpochView.as_view(), name="api_epoch"),
    path("wallet", settlement.WalletView.as_view(), name="api_wallet"),
    path("wallet/challenge", settlement.ChallengeView.as_view(), name="api_wallet_challenge"),
    path("claims", settlement.ClaimsView.as_view(), name="api_claims"),
    path("claims/<int:claim_id>", settlement.ClaimView.as_view(), name="api_claim"),
]
