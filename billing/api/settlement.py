"""Settlement for programs: epochs (public), one's wallet, claims. Amounts are decimal text, never floats."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import settlement_queries as queries
from billing.api.money import person
from billing.api.serializers import NtcField
from billing.models import Claim
from billing.services import claims, wallets
from billing.tasks.money import start
from billing.tasks.settlement import run_round


class EpochSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField(source="sequence")
    state = serializers.CharField()
    opened_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
    claimable_at = serializers.DateTimeField(allow_null=True)
    final_at = serializers.DateTimeField(allow_null=True)
    earned = NtcField(source="earned_units", help_text="What this epoch adds, in NTC.")
    cumulative = NtcField(source="cumulative_units", help_text="Everything ever settled, in NTC.")
    accounts = serializers.IntegerField()
    statements = serializers.IntegerField(source="statements_count")
    payout_root = serializers.CharField()
    usage_root = serializers.CharField()
    contract = serializers.CharField()
    transaction = serializers.CharField(source="posting.hash", default="")
    gas_used = serializers.IntegerField(source="posting.gas_used", default=None, allow_null=True)


class EpochPageSerializer(serializers.Serializer[Any]):
    epochs = EpochSerializer(many=True)
    next_before = serializers.IntegerField(allow_null=True)


class BeforeSerializer(serializers.Serializer[Any]):
    before = serializers.IntegerField(required=False, min_value=1, max_value=2**31 - 1)


class WalletSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="wallet.pk")
    address = serializers.CharField(source="wallet.address")
    proof = serializers.CharField(source="wallet.proof")
    active = serializers.BooleanField(source="wallet.active")
    claimable = NtcField(source="claimable_units")
    waiting = NtcField(source="waiting_units", help_text="Settled in epochs that are not final yet.")
    paid = NtcField(source="paid_units")
    under_way = serializers.BooleanField(help_text="A claim is on its way.")


class WalletLinkSerializer(serializers.Serializer[Any]):
    """Either `address` with `confirmed`, or `message` (from the challenge) with its `signature`."""

    address = serializers.CharField(required=False, max_length=60)
    confirmed = serializers.BooleanField(required=False, help_text="True: you have compared the address yourself.")
    message = serializers.CharField(required=False, max_length=1000, trim_whitespace=False)
    signature = serializers.CharField(required=False, max_length=200)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.keys() not in ({"address", "confirmed"}, {"message", "signature"}):
            raise serializers.ValidationError({"address": "Send address and confirmed, or message and signature."})
        if attrs.get("confirmed") is False:
            raise serializers.ValidationError({"confirmed": "Compare the address with your wallet, then send true."})
        return attrs


class ChallengeSerializer(serializers.Serializer[Any]):
    message = serializers.CharField(help_text="Sign exactly this text (EIP-191) within a quarter of an hour.")


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


class EpochsView(APIView):
    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="epochs_list", parameters=[OpenApiParameter("before", int)], responses=EpochPageSerializer
    )
    def get(self, request: Request) -> Response:
        """Epochs, newest first."""
        asked = BeforeSerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        return Response(EpochPageSerializer(queries.epochs_page(**asked.validated_data)).data)


class EpochView(APIView):
    permission_classes = (AllowAny,)

    @extend_schema(responses=EpochSerializer)
    def get(self, request: Request, sequence: int) -> Response:
        """One epoch."""
        epoch = queries.epoch_with_posting(sequence)
        if epoch is None:
            raise Http404
        return Response(EpochSerializer(epoch).data)


class WalletView(APIView):
    @extend_schema(responses=WalletSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The person's wallets, the active one first."""
        return Response(WalletSerializer(queries.wallet_balances(person(request).pk), many=True).data)

    @extend_schema(request=WalletLinkSerializer, responses=WalletSerializer(many=True))
    def post(self, request: Request) -> Response:
        """Link an address: entered and confirmed, or proven by a signature."""
        asked = WalletLinkSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted, by, now = asked.validated_data, person(request), timezone.now()
        if "signature" in wanted:
            wallets.link_signed(message=wanted["message"], signature=wanted["signature"], by=by, now=now)
        else:
            wallets.link_confirmed(address=wanted["address"], by=by, now=now)
        return self.get(request)


class ChallengeView(APIView):
    @extend_schema(responses=ChallengeSerializer)
    def get(self, request: Request) -> Response:
        """The text to sign to prove an address."""
        return Response({"message": wallets.challenge(user=person(request))})


class ClaimsView(APIView):
    @extend_schema(responses=ClaimSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The newest fifty claims."""
        return Response(ClaimSerializer(queries.claims_of(person(request).pk), many=True).data)

    @extend_schema(request=ClaimRequestSerializer, responses={202: ClaimSerializer})
    def post(self, request: Request) -> Response:
        """Claim everything a wallet can have now; while one is under way, that one is returned."""
        asked = ClaimRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        claim = claims.claim(wallet_id=asked.validated_data["wallet"], by=person(request), now=timezone.now())
        start(run_round)
        return Response(ClaimSerializer(claim).data, status=202)


class ClaimView(APIView):
    @extend_schema(responses=ClaimSerializer)
    def get(self, request: Request, claim_id: int) -> Response:
        """One claim."""
        return Response(ClaimSerializer(get_object_or_404(Claim, pk=claim_id, wallet__user=person(request))).data)
