"""Money for programs: balance, quotes, checkout, payments, ledger, earnings. Amounts are decimal text, never floats."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import queries
from billing.api import serializers
from billing.services import desk, topups
from billing.views.ledger import TABS
from interchain_site.core.models import User


def person(request: Request) -> User:
    """Return whose token or session it is."""
    assert isinstance(request.user, User)  # noqa: S101  (for the type checker: the API is for signed-in people only)
    return request.user


class BalanceView(APIView):
    @extend_schema(responses=serializers.BalanceSerializer)
    def get(self, request: Request) -> Response:
        """Everything the person has, in NTC."""
        return Response(serializers.BalanceSerializer(queries.balances(person(request).pk)).data)


class QuotesView(APIView):
    @extend_schema(request=serializers.QuoteRequestSerializer, responses={201: serializers.QuoteSerializer})
    def post(self, request: Request) -> Response:
        """Lock a price for `usd` dollars or for `ntc` NTC."""
        asked = serializers.QuoteRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        quote = desk.quote(user=person(request), now=timezone.now(), **asked.wanted())
        return Response(serializers.QuoteSerializer(quote).data, status=201)


class CheckoutView(APIView):
    @extend_schema(request=None, responses=serializers.PaymentSerializer)
    def post(self, request: Request, quote_id: UUID) -> Response:
        """Open Stripe's payment page for a quote; `url` is where a person pays. Repeating it gives the same page."""
        payment = topups.start_checkout(quote_id=quote_id, user=person(request), now=timezone.now())
        return Response(serializers.PaymentSerializer(payment).data)


class PaymentsView(APIView):
    @extend_schema(responses=serializers.PaymentSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The newest fifty payments."""
        found = queries.payments_of(person(request).pk)[: queries.PAGE]
        return Response(serializers.PaymentSerializer(found, many=True).data)


class PaymentView(APIView):
    @extend_schema(responses=serializers.PaymentSerializer)
    def get(self, request: Request, payment_id: UUID) -> Response:
        """One payment."""
        payment = get_object_or_404(queries.payments_of(person(request).pk), pk=payment_id)
        return Response(serializers.PaymentSerializer(payment).data)


class LedgerView(APIView):
    @extend_schema(
        parameters=[
            OpenApiParameter("account", str, enum=list(TABS)),
            OpenApiParameter("before", int, description="`next_before` of the page before this one."),
        ],
        responses=serializers.StatementSerializer,
    )
    def get(self, request: Request) -> Response:
        """One account's entries, newest first."""
        asked = serializers.StatementRequestSerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        wanted: dict[str, Any] = asked.validated_data
        page = queries.statement(person(request).pk, wanted["account"], before=wanted.get("before"))
        return Response(serializers.StatementSerializer(page).data)


class EarningsView(APIView):
    @extend_schema(responses=serializers.EarningsSerializer)
    def get(self, request: Request) -> Response:
        """What an owner earned: in hold, free, settled, and the last days."""
        found = queries.balances(person(request).pk)
        days = queries.earnings_by_day(person(request).pk)
        return Response(serializers.EarningsSerializer({"balances": found, "days": days}).data)
