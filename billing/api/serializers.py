"""Shapes of the money API, in and out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing import money
from billing.services import accounts
from billing.views.ledger import TABS


@extend_schema_field(str)
class NtcField(serializers.Field[int, int, str, Any]):
    """Base units as decimal text with nine places: `"1.500000000"`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(read_only=True, **kwargs)

    def to_representation(self, value: int) -> str:
        return money.plain_ntc(value)


@extend_schema_field(str)
class UsdField(serializers.Field[int, int, str, Any]):
    """Cents as decimal text with two places: `"12.50"`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(read_only=True, **kwargs)

    def to_representation(self, value: int) -> str:
        return money.plain_usd_cents(value)


class BalanceSerializer(serializers.Serializer[Any]):
    available = NtcField()
    frozen = NtcField()
    owed = NtcField()
    earnings_held = NtcField()
    earnings_available = NtcField()
    withdrawing = NtcField(help_text="Set aside for withdrawals that are in no epoch yet.")
    settled = NtcField()


class QuoteRequestSerializer(serializers.Serializer[Any]):
    usd = serializers.DecimalField(max_digits=12, decimal_places=2, required=False, min_value=Decimal("0.01"))
    ntc = serializers.DecimalField(max_digits=18, decimal_places=9, required=False, min_value=Decimal("0.000000001"))

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs) != 1:
            raise serializers.ValidationError({"usd": "Send either usd or ntc."})
        return attrs

    def wanted(self) -> dict[str, int]:
        """Return the amount as `desk.quote` takes it."""
        if "usd" in self.validated_data:
            return {"cents": int(self.validated_data["usd"] * money.CENTS)}
        return {"units": int(self.validated_data["ntc"] * money.NANO)}


class QuoteSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    ntc = NtcField(source="units")
    usd = UsdField(source="cents")
    rate = serializers.DecimalField(max_digits=15, decimal_places=9, help_text="USD per NTC.")
    expires_at = serializers.DateTimeField()


class PaymentSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    state = serializers.CharField()
    ntc = NtcField(source="units")
    usd = UsdField(source="cents")
    refunded_usd = UsdField(source="refunded_cents")
    url = serializers.CharField(source="session_url", help_text="Where a person pays, while the state is open.")
    created_at = serializers.DateTimeField()
    paid_at = serializers.DateTimeField(allow_null=True)
    credited_at = serializers.DateTimeField(allow_null=True, help_text="When the NTC arrived in the balance.")


class StatementRequestSerializer(serializers.Serializer[Any]):
    account = serializers.ChoiceField(choices=list(TABS), default=accounts.AVAILABLE)
    before = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1)


class EntrySerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    transaction = serializers.IntegerField(source="transaction_id")
    kind = serializers.CharField(source="transaction.kind")
    memo = serializers.CharField(source="transaction.memo")
    reference = serializers.CharField(source="transaction.reference")
    effective_at = serializers.DateTimeField(source="transaction.effective_at")
    posted_at = serializers.DateTimeField(source="transaction.created_at")
    ntc = NtcField(source="amount")
    balance = NtcField(source="balance_after")


class StatementSerializer(serializers.Serializer[Any]):
    entries = EntrySerializer(many=True)
    next_before = serializers.IntegerField(allow_null=True)


class EarningsDaySerializer(serializers.Serializer[Any]):
    day = serializers.DateField()
    ntc = NtcField(source="units")


class EarningsSerializer(serializers.Serializer[Any]):
    held = NtcField(source="balances.earnings_held")
    available = NtcField(source="balances.earnings_available")
    settled = NtcField(source="balances.settled")
    days = EarningsDaySerializer(many=True)
