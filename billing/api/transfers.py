"""Deposits and withdrawals for programs. Amounts are decimal text, never floats."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import money, wallet_queries
from billing.api.money import person
from billing.api.serializers import NtcField
from billing.chain import deployments
from billing.services import chain_accounts, wallets, withdrawals


class DepositSerializer(serializers.Serializer[Any]):
    transaction = serializers.CharField(source="transaction_hash")
    ntc = NtcField(source="units")
    at = serializers.DateTimeField()
    state = serializers.ChoiceField(choices=["sent", "confirming", "credited"])
    confirmations = serializers.IntegerField()
    needed = serializers.IntegerField(help_text="Confirmations after which it is credited.")


class DepositsSerializer(serializers.Serializer[Any]):
    reference = serializers.CharField(help_text="The account to deposit for: `deposit(reference, amount)`.")
    contract = serializers.CharField(help_text="The Settlement contract; empty before it is deployed.")
    token = serializers.CharField(help_text="The NTC token.")
    deposits = DepositSerializer(many=True)


class WithdrawalSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="pk")
    address = serializers.CharField(source="wallet.address")
    ntc = NtcField(source="units")
    state = serializers.CharField()
    asked_at = serializers.DateTimeField()
    confirmed_at = serializers.DateTimeField(allow_null=True)
    held_until = serializers.DateTimeField(allow_null=True)
    epoch = serializers.IntegerField(source="epoch.sequence", default=None, allow_null=True)
    transaction = serializers.CharField(source="transaction_hash")
    paid_at = serializers.DateTimeField(allow_null=True)
    reason = serializers.CharField(help_text="Why it was cancelled.")


class WithdrawalRequestSerializer(serializers.Serializer[Any]):
    ntc = serializers.DecimalField(max_digits=17, decimal_places=9)
    address = serializers.CharField(
        max_length=60, help_text="Compare it yourself: nobody can bring back what goes wrong."
    )


class WithdrawalCodeSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(max_length=20, help_text="From the authenticator, or from our e-mail.")


class DepositsView(APIView):
    @extend_schema(responses=DepositsSerializer)
    def get(self, request: Request) -> Response:
        """Where to deposit, and the newest fifty deposits."""
        user, deployment = person(request), deployments.recorded()
        reference = chain_accounts.reference_of(user=user)
        facts = {
            "reference": reference,
            "contract": deployment.settlement if deployment else "",
            "token": deployment.intercoin if deployment else "",
            "deposits": wallet_queries.deposits_of(user.pk, reference=reference),
        }
        return Response(DepositsSerializer(facts).data)


class WithdrawalsView(APIView):
    @extend_schema(responses=WithdrawalSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The newest fifty withdrawals."""
        return Response(WithdrawalSerializer(wallet_queries.withdrawals_of(person(request).pk), many=True).data)

    @extend_schema(request=WithdrawalRequestSerializer, responses={201: WithdrawalSerializer})
    def post(self, request: Request) -> Response:
        """Ask for a withdrawal; confirm it with the code."""
        asked = WithdrawalRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        by, now = person(request), timezone.now()
        wallet = wallets.remember(address=asked.validated_data["address"], by=by, now=now)
        units = int(asked.validated_data["ntc"] * money.NANO)
        withdrawal = withdrawals.ask(wallet_id=wallet.pk, units=units, by=by, now=now)
        return Response(WithdrawalSerializer(withdrawal).data, status=201)


class WithdrawalView(APIView):
    @extend_schema(responses=WithdrawalSerializer)
    def get(self, request: Request, withdrawal_id: UUID) -> Response:
        """One withdrawal."""
        found = withdrawals.of_person(withdrawal_id=withdrawal_id, user=person(request))
        return Response(WithdrawalSerializer(found).data)


class WithdrawalConfirmView(APIView):
    @extend_schema(request=WithdrawalCodeSerializer, responses=WithdrawalSerializer)
    def post(self, request: Request, withdrawal_id: UUID) -> Response:
        """Confirm it with the code."""
        asked = WithdrawalCodeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        code = asked.validated_data["code"]
        done = withdrawals.confirm(withdrawal_id=withdrawal_id, code=code, by=person(request), now=timezone.now())
        return Response(WithdrawalSerializer(done).data)


class WithdrawalCancelView(APIView):
    @extend_schema(request=None, responses=WithdrawalSerializer)
    def post(self, request: Request, withdrawal_id: UUID) -> Response:
        """Cancel it, as long as no epoch has it."""
        done = withdrawals.cancel(withdrawal_id=withdrawal_id, by=person(request), now=timezone.now())
        return Response(WithdrawalSerializer(done).data)
