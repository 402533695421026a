"""Settlement for programs: epochs, for anybody. Amounts are decimal text, never floats."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import settlement_queries as queries
from billing.api.serializers import NtcField


class EpochSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField(source="sequence")
    state = serializers.CharField()
    opened_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
    claimable_at = serializers.DateTimeField(allow_null=True)
    final_at = serializers.DateTimeField(allow_null=True)
    earned = NtcField(source="earned_units", help_text="Earnings this epoch adds, in NTC.")
    withdrawn = NtcField(source="withdrawal_units", help_text="Withdrawals this epoch adds, in NTC.")
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
