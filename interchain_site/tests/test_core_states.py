"""One row, two who want to move it: the first does, the second hears of it."""

from __future__ import annotations

import pytest

from interchain_site.core.errors import Conflict
from interchain_site.core.models import User
from interchain_site.core.states import check_move, compare_and_set


@pytest.mark.django_db
def test_the_second_one_does_not_move_it(cast):
    first, second = User.objects.get(pk=cast.buyer.pk), User.objects.get(pk=cast.buyer.pk)
    seen = {"first_name": first.first_name}
    assert compare_and_set(first, seen=seen, changes={"first_name": "A", "last_name": "B"})
    assert (first.first_name, first.last_name) == ("A", "B")
    before = second.first_name
    assert not compare_and_set(second, seen=seen, changes={"first_name": "C"})
    assert second.first_name == before
    assert User.objects.get(pk=cast.buyer.pk).first_name == "A"


def test_only_what_the_table_has():
    check_move({"open": {"closed"}}, "open", "closed")
    with pytest.raises(Conflict, match="from open to lost"):
        check_move({"open": {"closed"}}, "open", "lost")
