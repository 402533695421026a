"""Wallets and claims for programs. Amounts are decimal text, never floats."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import money, wallet_queries
from billing import settlement_queries as queries
from billing.api.money import person
from billing.api.serializers import NtcField
from billing.chain import client
from billing.models import Claim
from billing.services import auto_claims, wallets
from billing.tasks.money import start
from billing.tasks.settlement import run_round


class WalletSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="wallet.pk")
    address = serializers.CharField(source="wallet.address")
    proof = serializers.CharField(source="wallet.proof")
    active = serializers.BooleanField(source="wallet.active")
    active_from = serializers.DateTimeField(
        source="wallet.active_from",
        allow_null=True,
        help_text="When it replaces the active one; null: it does not wait.",
    )
    claimable = NtcField(source="balance.claimable_units")
    waiting = NtcField(source="balance.waiting_units", help_text="Settled in epochs that are not final yet.")
    paid = NtcField(source="balance.paid_units")
    under_way = serializers.BooleanField(source="balance.under_way", help_text="A claim is on its way.")
    pushed = serializers.BooleanField(
        source="plan.push",
        default=None,
        allow_null=True,
        help_text="Whether we send a claim now; null: nothing to claim.",
    )
    reason = serializers.CharField(source="plan.reason", default="", help_text="Why, in words.")


class WalletLinkSerializer(serializers.Serializer[Any]):
    """Either `address` with `confirmed`, or `message` (from the challenge) with its `signature`."""

    address = serializers.CharField(required=False, max_length=60)
    confirmed = serializers.BooleanField(required=False, help_text="True: you have compared the address yourself.")
    message = serializers.CharField(required=False, max_length=2000, trim_whitespace=False)
    signature = serializers.CharField(required=False, max_length=20_000)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.keys() not in ({"address", "confirmed"}, {"message", "signature"}):
            raise serializers.ValidationError({"address": "Send address and confirmed, or message and signature."})
        if attrs.get("confirmed") is False:
            raise serializers.ValidationError({"confirmed": "Compare the address with your wallet, then send true."})
        return attrs


class ChallengeRequestSerializer(serializers.Serializer[Any]):
    address = serializers.CharField(max_length=60)


class ChallengeSerializer(serializers.Serializer[Any]):
    message = serializers.CharField(
        help_text="An EIP-4361 message. Sign exactly this text (EIP-191) within a quarter of an hour, once."
    )


class AutoClaimSerializer(serializers.Serializer[Any]):
    threshold = NtcField(
        allow_null=True, source="threshold_units", help_text="Payouts are sent from this amount on; null: when asked."
    )


class AutoClaimRequestSerializer(serializers.Serializer[Any]):
    threshold = serializers.DecimalField(max_digits=17, decimal_places=9, allow_null=True)


class ClaimRequestSerializer(serializers.Serializer[Any]):
    wallet = serializers.IntegerField(min_value=1, max_value=2**63 - 1)


class ClaimSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    wallet = serializers.IntegerField(source="wallet_id")
    epoch = serializers.IntegerField(source="epoch.sequence")
    state = serializers.CharField()
    ntc = NtcField(source="units")
    transaction = serializers.CharField(source="transaction_hash")
    error = serializers.CharField()
    requested_at = serializers.DateTimeField()
    final_at = serializers.DateTimeField(allow_null=True)


class WalletView(APIView):
    @extend_schema(responses=WalletSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The person's wallets, the active one first."""
        cards = wallet_queries.wallet_cards(person(request).pk, now=timezone.now())
        return Response(WalletSerializer(cards, many=True).data)

    @extend_schema(request=WalletLinkSerializer, responses=WalletSerializer(many=True))
    def post(self, request: Request) -> Response:
        """Link an address: entered and confirmed, or proven by a signature. Replacing one waits (`active_from`)."""
        asked = WalletLinkSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted, by, now = asked.validated_data, person(request), timezone.now()
        if "signature" in wanted:
            wallets.link_signed(
                message=wanted["message"], signature=wanted["signature"], by=by, now=now, connect=client.connect
            )
        else:
            wallets.link_confirmed(address=wanted["address"], by=by, now=now)
        return self.get(request)


class ChallengeView(APIView):
    @extend_schema(
        parameters=[OpenApiParameter("address", str, required=True)],
        responses=ChallengeSerializer,
    )
    def get(self, request: Request) -> Response:
        """The text to sign to prove an address."""
        asked = ChallengeRequestSerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        address = asked.validated_data["address"]
        return Response({"message": wallets.challenge(user=person(request), address=address, now=timezone.now())})


class AutoClaimView(APIView):
    @extend_schema(responses=AutoClaimSerializer)
    def get(self, request: Request) -> Response:
        """From what amount on payouts are sent without being asked each time."""
        return Response(AutoClaimSerializer({"threshold_units": wallet_queries.threshold_of(person(request).pk)}).data)

    @extend_schema(request=AutoClaimRequestSerializer, responses=AutoClaimSerializer)
    def put(self, request: Request) -> Response:
        """Set it; null switches it off."""
        asked = AutoClaimRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        amount = asked.validated_data["threshold"]
        units = None if amount is None else int(amount * money.NANO)
        auto_claims.set_threshold(units=units, by=person(request), now=timezone.now())
        return self.get(request)


class ClaimsView(APIView):
    @extend_schema(responses=ClaimSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The newest fifty claims."""
        return Response(ClaimSerializer(queries.claims_of(person(request).pk), many=True).data)

    @extend_schema(request=ClaimRequestSerializer, responses={202: ClaimSerializer})
    def post(self, request: Request) -> Response:
        """Claim everything a wallet can have now; while one is under way, that one is returned.

        Refused with `not_worth_its_gas` where the gas costs too much for what it pays; the message says from when on not.
        """
        asked = ClaimRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        claim = auto_claims.ask(wallet_id=asked.validated_data["wallet"], by=person(request), now=timezone.now())
        start(run_round)
        return Response(ClaimSerializer(claim).data, status=202)


class ClaimView(APIView):
    @extend_schema(responses=ClaimSerializer)
    def get(self, request: Request, claim_id: int) -> Response:
        """One claim."""
        return Response(ClaimSerializer(get_object_or_404(Claim, pk=claim_id, wallet__user=person(request))).data)
