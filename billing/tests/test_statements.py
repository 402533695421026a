"""Usage statements are kept once, byte for byte."""

from __future__ import annotations

import hashlib
import json

import pytest

from billing.errors import IdempotencyConflict
from billing.models import UsageStatement
from billing.services.statements import StatementDraft, record_statements


def record(now, *drafts: tuple[str, dict]) -> None:
    record_statements(drafts=[StatementDraft(key, document) for key, document in drafts], now=now)


def test_the_hash_is_of_exactly_the_bytes_kept(db, now):
    record(now, ("one", {"b": 1, "a": "ü", "c": [None, True]}))
    kept = UsageStatement.objects.get()
    assert kept.document == '{"a":"ü","b":1,"c":[null,true]}'
    assert kept.sha256 == hashlib.sha256(kept.document.encode()).hexdigest()
    assert json.loads(kept.document)["a"] == "ü"


def test_the_same_again_changes_nothing(db, now):
    for _ in range(2):
        record(now, ("one", {"a": 1}), ("two", {"a": 2}), ("one", {"a": 1}))
    assert UsageStatement.objects.count() == 2


def test_another_content_under_the_same_key_is_refused_as_a_whole(db, now):
    record(now, ("one", {"a": 1}))
    with pytest.raises(IdempotencyConflict, match="one"):
        record(now, ("two", {"a": 2}), ("one", {"a": 3}))
    assert UsageStatement.objects.count() == 1


def test_two_contents_under_one_key_in_one_call_are_refused(db, now):
    with pytest.raises(IdempotencyConflict, match="twice"):
        record(now, ("one", {"a": 1}), ("one", {"a": 2}))


def test_floats_are_refused(db, now):
    with pytest.raises(TypeError, match="floats"):
        record(now, ("one", {"a": 0.1}))


def test_thousands_in_one_call(db, now, django_assert_max_num_queries):
    drafts = [(f"key:{number}", {"number": number}) for number in range(2_500)]
    with django_assert_max_num_queries(25):
        record(now, *drafts)
    assert UsageStatement.objects.count() == 2_500
