"""Tests with real transactions can empty the database, and load Table 3 again."""

from __future__ import annotations

import pytest

from marketplace.models import PriceList
from marketplace.services import price_lists


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("round_", [1, 2])
def test_a_flush_between_tests_is_survived(round_):
    assert price_lists.load_table_3().is_published
    assert PriceList.objects.count() == 1
