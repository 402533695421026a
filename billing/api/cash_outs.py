"""Cashing out for programs. Amounts are decimal text, never floats; a person's code is needed here too."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import queries
from billing.api.money import person
from billing.api.serializers import NtcField, QuoteRequestSerializer, UsdField
from billing.models import CashOut, ConnectAccount
from billing.services import cash_out_rules, cash_out_words, cash_outs, confirmations, connect_accounts


class CashOutSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    state = serializers.CharField()
    ntc = NtcField(source="units")
    usd = UsdField(source="cents")
    rate = serializers.DecimalField(max_digits=15, decimal_places=9, help_text="USD per NTC.")
    bank = serializers.CharField()
    reason = serializers.CharField(help_text="Why it waits, or why it failed.")
    failure_code = serializers.CharField(help_text="Stripe's name for what the bank said.")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(help_text="Confirm it before then.")
    transferred_at = serializers.DateTimeField(allow_null=True)
    arrives_on = serializers.DateField(allow_null=True)
    paid_at = serializers.DateTimeField(allow_null=True)


class CashOutAskedSerializer(CashOutSerializer):
    confirm_by = serializers.SerializerMethodField(help_text="`authenticator`, or `email`: a code was sent.")

    def get_confirm_by(self, cash_out: CashOut) -> str:
        return str(confirmations.method_for(cash_out.user))


class CodeSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(max_length=20)


class BankSerializer(serializers.Serializer[Any]):
    standing = serializers.CharField(
        help_text="none, begun, checking, wanted, bank_failed, other_currency, rejected, or ready: you can cash out."
    )
    bank = serializers.CharField()
    country = serializers.CharField()
    wanted = serializers.ListField(child=serializers.CharField(), help_text="What Stripe still wants to know.")
    possible_usd = UsdField(source="possible_cents", help_text="What the desk and your daily limit leave.")


class BankRequestSerializer(serializers.Serializer[Any]):
    country = serializers.CharField(max_length=2, required=False, help_text="Of the bank, two letters; the first time.")


class BankLinkSerializer(serializers.Serializer[Any]):
    url = serializers.URLField(help_text="Where a person tells Stripe their name and bank; works once.")


class CashOutsView(APIView):
    @extend_schema(responses=CashOutSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The newest fifty cash-outs."""
        found = queries.cash_outs_of(person(request).pk)[: queries.PAGE]
        return Response(CashOutSerializer(found, many=True).data)

    @extend_schema(request=QuoteRequestSerializer, responses={201: CashOutAskedSerializer})
    def post(self, request: Request) -> Response:
        """Lock a price to get `usd` dollars or to sell `ntc` NTC of free earnings; then confirm it with the code."""
        asked = QuoteRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        cash_out = cash_outs.ask(user=person(request), now=timezone.now(), **asked.wanted())
        return Response(CashOutAskedSerializer(cash_out).data, status=201)


class CashOutView(APIView):
    @extend_schema(responses=CashOutSerializer)
    def get(self, request: Request, cash_out_id: UUID) -> Response:
        """One cash-out."""
        return Response(CashOutSerializer(cash_outs.of_person(cash_out_id=cash_out_id, user=person(request))).data)


class CashOutConfirmView(APIView):
    @extend_schema(request=CodeSerializer, responses=CashOutSerializer)
    def post(self, request: Request, cash_out_id: UUID) -> Response:
        """Confirm with the code; what cannot be paid has the state `refused` and a reason."""
        asked = CodeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        code = asked.validated_data["code"]
        found = cash_outs.confirm(cash_out_id=cash_out_id, user=person(request), code=code, now=timezone.now())
        return Response(CashOutSerializer(found).data)


class CashOutCancelView(APIView):
    @extend_schema(request=None, responses=CashOutSerializer)
    def post(self, request: Request, cash_out_id: UUID) -> Response:
        """Give it up, as long as nothing moved."""
        found = cash_outs.cancel(cash_out_id=cash_out_id, user=person(request), now=timezone.now())
        return Response(CashOutSerializer(found).data)


class BankView(APIView):
    @extend_schema(responses=BankSerializer)
    def get(self, request: Request) -> Response:
        """How the link to the person's bank stands."""
        account = connect_accounts.of(person(request))
        return Response(BankSerializer(_bank(request, account)).data)

    @extend_schema(request=BankRequestSerializer, responses=BankLinkSerializer)
    def post(self, request: Request) -> Response:
        """Return the address at Stripe where a person links a bank, or goes on with it."""
        asked = BankRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        account = connect_accounts.of(person(request))
        country = account.country if account else asked.validated_data.get("country", "")
        url = connect_accounts.start_onboarding(user=person(request), country=country, now=timezone.now())
        return Response({"url": url})


def _bank(request: Request, account: ConnectAccount | None) -> dict[str, object]:
    possible = min(cash_out_rules.desk_cash_cents(), cash_out_rules.left_today_cents(person(request), timezone.now()))
    return {
        "standing": cash_out_words.standing(account),
        "bank": account.bank if account else "",
        "country": account.country if account else "",
        "wanted": cash_out_words.wanted(account) if account else [],
        "possible_cents": possible,
    }
