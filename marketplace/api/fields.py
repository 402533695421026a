"""Amounts in the API are decimal text, never floats."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing import money


@extend_schema_field(str)
class NanoUsdField(serializers.Field[int, int, str, Any]):
    """Nano-dollars as decimal text with nine places: `"0.110000000"`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(read_only=True, **kwargs)

    def to_representation(self, value: int) -> str:
        return money.plain_ntc(value)  # the same nine places


@extend_schema_field({"type": "object", "additionalProperties": {"type": "string"}})
class TextsField(serializers.DictField):
    """Names and texts; neither may hold a zero byte."""

    child = serializers.CharField(allow_blank=True, trim_whitespace=False, max_length=32_768)


class AmountField(serializers.DecimalField):
    """A quantity a person expects, up to a million with six decimals."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_digits=12, decimal_places=6, min_value=Decimal(0), max_value=Decimal(999_999), **kwargs)
