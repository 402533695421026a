"""Deposits and withdrawals."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations
from django.db.migrations.operations.base import Operation


def rename_settled(apps: Any, _: object) -> None:
    """What is committed to a payout is not only earnings any more: withdrawals go the same way."""
    apps.get_model("billing", "Account").objects.filter(kind="earnings_settled").update(kind="settled")


def rename_back(apps: Any, _: object) -> None:
    apps.get_model("billing", "Account").objects.filter(kind="settled").update(kind="earnings_settled")


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("billing", "0220_sale")]

    operations: ClassVar[list[Operation]] = [
        migrations.RunPython(rename_settled, rename_back),
    ]
