"""Cashing out through Stripe Connect."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations
from django.db.migrations.operations.base import Operation


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("billing", "0240_reserves")]

    operations: ClassVar[list[Operation]] = []
