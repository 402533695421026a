"""The token sale for programs: rounds and token (public), quotes, one's purchases, calls for a wallet of one's own.

A card purchase is a quote here, then `quotes/{id}/checkout` like any other quote. Amounts are decimal text, never floats.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import money
from billing import sale_queries as queries
from billing.api.money import person
from billing.api.serializers import NtcField, QuoteRequestSerializer, QuoteSerializer
from billing.chain import keys
from billing.models import SaleAsset
from billing.services import sale_gates, sale_purchases, sale_wallets, token_facts
from interchain_site.core.errors import Invalid

PRICE: dict[str, Any] = {"max_digits": 30, "decimal_places": 9, "allow_null": True}


class SaleRoundSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField(source="row.number")
    state = serializers.ChoiceField(choices=["planned", "open", "closed"])
    target = NtcField(source="row.target_units")
    carried = NtcField(source="row.carried_units", help_text="Added from the round before by a staff decision.")
    sold = NtcField(source="row.sold_units")
    left = NtcField(help_text="What can still be bought; promised to open checkouts taken off.")
    price = serializers.DecimalField(source="row.price", help_text="USD per NTC, fixed at the opening.", **PRICE)
    price_cap = serializers.SerializerMethodField(help_text="The most it may cost, USD per NTC, before it is opened.")
    trigger = serializers.CharField(source="row.trigger")
    planned_on = serializers.DateField(
        source="row.planned_on", help_text="The whitepaper's date; nothing waits for it."
    )
    opened_at = serializers.DateTimeField(source="row.opened_at", allow_null=True)
    closed_at = serializers.DateTimeField(source="row.closed_at", allow_null=True)

    def get_price_cap(self, card: queries.RoundCard) -> str | None:
        return None if card.cap is None else f"{Decimal(card.cap).scaleb(-money.RATE_DECIMALS):f}"


class SalePurchaseSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="row.pk")
    round = serializers.IntegerField(source="row.sale_round_id")
    state = serializers.CharField(source="row.state")
    asset = serializers.ChoiceField(source="row.asset", choices=SaleAsset.choices)
    ntc = NtcField(source="row.units")
    paid = serializers.CharField(help_text="In what it was paid with, in words: $10.00, 10.00 USDC, 0.004 ETH.")
    transaction = serializers.CharField(source="row.transaction_hash")
    reference = serializers.CharField(source="row.reference", help_text="Names a card purchase on the chain.")
    block = serializers.IntegerField(source="block_number", allow_null=True)
    confirmations = serializers.IntegerField(allow_null=True, help_text="Null while it is in no block.")
    confirmations_needed = serializers.IntegerField(source="needed")
    to_wallet = serializers.CharField(source="row.wallet")
    note = serializers.CharField(source="row.note")
    created_at = serializers.DateTimeField(source="row.created_at")
    delivered_at = serializers.DateTimeField(source="row.delivered_at", allow_null=True)


class TokenSerializer(serializers.Serializer[Any]):
    checked_at = serializers.DateTimeField(help_text="When the chain was read.")
    block = serializers.IntegerField(source="block_number")
    chain = serializers.IntegerField(source="chain_id")
    supply = NtcField()
    in_settlement = NtcField(source="settlement_balance")
    founders_locked = NtcField(source="vault_balance")
    founders_released = NtcField(source="vault_released")
    founders_open = serializers.BooleanField(source="vault_open")
    founders_price_target = serializers.SerializerMethodField(help_text="USD per NTC; null until round 3 opened.")
    founders_average_price = serializers.SerializerMethodField(
        help_text="USD per NTC; null until a window is observed."
    )
    founders_unlock_at = serializers.DateTimeField(source="unlocks_at", allow_null=True)
    sale_paused = serializers.BooleanField()
    contracts = serializers.SerializerMethodField(help_text="Addresses by name.")

    def get_founders_price_target(self, facts: token_facts.Facts) -> str | None:
        return _usd(facts.vault_price_target)

    def get_founders_average_price(self, facts: token_facts.Facts) -> str | None:
        return _usd(facts.vault_average_price)

    def get_contracts(self, facts: token_facts.Facts) -> dict[str, str]:
        names = (
            "intercoin",
            "sale",
            "vault",
            "settlement",
            "timelock",
            "treasury",
            "stablecoin",
            "ether_feed",
            "ntc_feed",
        )
        return {name: getattr(facts, name) for name in names}


class DeclarationSerializer(serializers.Serializer[Any]):
    country = serializers.CharField(
        max_length=2, required=False, allow_blank=True, help_text="ISO 3166-1, two letters."
    )
    terms = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1, help_text="Accept these terms.")


class AskedSerializer(serializers.Serializer[Any]):
    asked = serializers.ListField(child=serializers.CharField(), help_text="What is still to be said: country, terms.")
    terms = serializers.IntegerField(allow_null=True, help_text="The newest terms' number.")
    terms_text = serializers.CharField()
    quota_left = serializers.CharField(allow_null=True, help_text="NTC you may still buy in the open round.")


class WalletCallRequestSerializer(serializers.Serializer[Any]):
    asset = serializers.ChoiceField(choices=[SaleAsset.STABLECOIN.value, SaleAsset.ETHER.value])
    ntc = serializers.DecimalField(max_digits=18, decimal_places=9, min_value=Decimal("0.000000001"))
    address = serializers.CharField(max_length=42, help_text="The wallet that will send the transactions.")
    slippage_percent = serializers.DecimalField(
        max_digits=4, decimal_places=2, min_value=Decimal(0), max_value=Decimal(20), default=Decimal(1)
    )
    to_wallet = serializers.BooleanField(
        default=False, help_text="True: the NTC go to the wallet, not to your balance."
    )
    approved = serializers.BooleanField(default=False, help_text="True once the approval is in a block.")


class WalletCallSerializer(serializers.Serializer[Any]):
    step = serializers.ChoiceField(choices=["approve", "buy"])
    call = serializers.DictField(
        child=serializers.CharField(), help_text="The transaction's to, data and value, in hex."
    )
    explain = serializers.CharField()


class SaleRoundsView(APIView):
    permission_classes = (AllowAny,)

    @extend_schema(operation_id="sale_rounds_list", responses=SaleRoundSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The three rounds, in order."""
        return Response(SaleRoundSerializer(queries.round_cards(timezone.now()), many=True).data)


class TokenView(APIView):
    permission_classes = (AllowAny,)

    @extend_schema(responses=TokenSerializer)
    def get(self, request: Request) -> Response:
        """What the contracts say about the token; 404 until the chain was read once."""
        facts = token_facts.current()
        if facts is None:
            raise Http404
        return Response(TokenSerializer(facts).data)


class SaleQuotesView(APIView):
    @extend_schema(request=QuoteRequestSerializer, responses={201: QuoteSerializer})
    def post(self, request: Request) -> Response:
        """Lock the open round's price for `usd` dollars or `ntc` NTC by card; then POST quotes/{id}/checkout."""
        asked = QuoteRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        quote = sale_purchases.quote(user=person(request), now=timezone.now(), **asked.wanted())
        return Response(QuoteSerializer(quote).data, status=201)


class SaleCallsView(APIView):
    @extend_schema(request=WalletCallRequestSerializer, responses=WalletCallSerializer)
    def post(self, request: Request) -> Response:
        """The next transaction to send from your wallet: an approval first for the stablecoin, then the purchase."""
        asked = WalletCallRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted = asked.validated_data
        address = keys.checksummed(wanted["address"])
        if address is None:
            raise Invalid("This is not an Ethereum address.", fields={"address": "0x and 40 digits."})
        wish = sale_wallets.Wish(
            user=person(request),
            asset=wanted["asset"],
            units=int(wanted["ntc"] * money.NANO),
            slippage_basis_points=int(wanted["slippage_percent"] * 100),
            to_portal=not wanted["to_wallet"],
            by_permit=False,
            address=address,
        )
        answers = {"approval": "approved" if wanted["approved"] else ""}
        step = sale_wallets.next_step(wish=wish, answers=answers, kept={}, now=timezone.now())
        name = "approve" if step["keep"] == "approval" else "buy"
        return Response(WalletCallSerializer({**step, "step": name}).data)


class SaleDeclarationView(APIView):
    @extend_schema(responses=AskedSerializer)
    def get(self, request: Request) -> Response:
        """What the sale's rules ask you to say before buying, and what your quota leaves."""
        user, newest, sale_round = person(request), sale_gates.newest_terms(), sale_purchases.open_round()
        left = sale_gates.quota_left(user=user, sale_round=sale_round) if sale_round else None
        found = {
            "asked": sorted(sale_gates.missing(user=user)),
            "terms": newest.pk if newest else None,
            "terms_text": newest.text if newest else "",
            "quota_left": None if left is None else money.plain_ntc(left),
        }
        return Response(AskedSerializer(found).data)

    @extend_schema(request=DeclarationSerializer, responses=AskedSerializer)
    def post(self, request: Request) -> Response:
        """Say where you live, and accept the terms."""
        asked = DeclarationSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        user, wanted = person(request), asked.validated_data
        sale_gates.declare(
            user=user,
            country=wanted.get("country", "").upper() or sale_gates.declared_country(user=user),
            terms_id=wanted.get("terms") or sale_gates.accepted_terms(user=user),
            now=timezone.now(),
        )
        return self.get(request)


class SalePurchasesView(APIView):
    @extend_schema(responses=SalePurchaseSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The newest fifty purchases in the sale."""
        rows = list(queries.purchases_of(person(request).pk)[: queries.PAGE])
        return Response(SalePurchaseSerializer(queries.views_of(rows), many=True).data)


class SalePurchaseView(APIView):
    @extend_schema(responses=SalePurchaseSerializer)
    def get(self, request: Request, purchase_id: UUID) -> Response:
        """One purchase."""
        row = get_object_or_404(queries.purchases_of(person(request).pk), pk=purchase_id)
        return Response(SalePurchaseSerializer(queries.views_of([row])[0]).data)


def _usd(nano: int) -> str | None:
    return f"{Decimal(nano).scaleb(-money.RATE_DECIMALS):f}" if nano else None
