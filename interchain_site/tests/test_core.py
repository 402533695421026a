"""The helpers every app leans on."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from interchain_site.core import audit, canonical, redis, secrets
from interchain_site.core.errors import Invalid


def test_canonical_json_is_one_byte_form():
    assert canonical.canonical_json({"b": 1, "a": ["é", None]}) == '{"a":["é",null],"b":1}'.encode()


def test_canonical_json_refuses_floats():
    with pytest.raises(TypeError):
        canonical.canonical_json({"a": [1.5]})


def test_secrets_survive_a_key_rotation(settings):
    token = secrets.encrypt("pa55")
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode(), *settings.FIELD_ENCRYPTION_KEYS]
    assert secrets.decrypt(token) == "pa55"


def test_a_lost_key_says_so(settings):
    token = secrets.encrypt("pa55")
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(secrets.Undecryptable, match="FIELD_ENCRYPTION_KEYS"):
        secrets.decrypt(token)


def test_redis_is_real():
    redis.connection().set("x", "1")
    assert redis.connection().get("x") == "1"


def test_audit_names_the_person(cast):
    event = audit.record("thing_done", subject="thing:1", by=cast.staff, colour="red")
    assert (event.actor, event.data) == (f"user:{cast.staff.pk}", {"colour": "red"})


def test_domain_error_has_one_shape():
    assert Invalid("No.", fields={"port": "Too big."}).as_dict() == {
        "code": "invalid",
        "message": "No.",
        "fields": {"port": "Too big."},
    }


def test_deeply_nested_json_is_an_error_not_a_crash():
    import json
    import sys

    import web3  # noqa: F401  (brings a library that raises the limit)

    assert sys.getrecursionlimit() <= 10_000
    with pytest.raises(RecursionError):
        json.loads("[" * 100_000)


@pytest.mark.django_db
def test_metrics_are_only_for_who_has_the_token(client, settings):
    assert client.get("/metrics/metrics", headers={"Authorization": "Bearer "}).status_code == 404
    settings.METRICS_TOKEN = "m3trics"
    assert client.get("/metrics/metrics").status_code == 404
    answer = client.get("/metrics/metrics", headers={"Authorization": "Bearer m3trics"})
    assert b"python_info" in answer.content
