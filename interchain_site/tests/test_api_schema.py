"""The whole REST API against its own schema: nothing sent may break it, and what it answers is what it says it answers."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import schemathesis
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rest_framework.authtoken.models import Token
from rest_framework.views import APIView
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from billing.models import DeskRate
from interchain_site.testing.cast import Cast
from interchain_site.testing.devices import make_device
from marketplace.conftest import DIGEST, NTC, fund
from marketplace.services import publishing

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]
EXAMPLES = 10


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    monkeypatch.setattr(APIView, "throttle_classes", [])
    document = SchemaGenerator().get_schema(request=None, public=True)
    schema = schemathesis.openapi.from_dict(document).include(path_regex="^/api/v1/")
    schema.app = get_wsgi_application()
    # As Django's own test client: a request would close a connection older than CONN_MAX_AGE, the test's transaction with it.
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield [result.ok() for result in schema.get_all_operations()]
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def app(cast: Cast) -> str:
    """An app that can be deployed; returns its slug."""
    DeskRate.objects.create(rate=Decimal("0.5"), starts_at=timezone.now())
    make_device(cast.owner)
    fund(cast.publisher, 10_000 * NTC)
    app = publishing.register_app(name="Blog", by=cast.publisher)
    publishing.add_release(app=app, spec=publishing.ReleaseSpec(image_reference=DIGEST), by=cast.publisher)
    return app.slug


@pytest.mark.slow
def test_the_api_keeps_its_word(operations: list[Any], cast: Cast, app: str) -> None:
    token = Token.objects.create(user=cast.publisher)
    headers = {"Authorization": f"Token {token.key}"}
    broken = []
    for operation in operations:

        @given(case=operation.as_strategy(), known=st.booleans())
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: Any, known: bool) -> None:
            if known and "slug" in case.path_parameters:
                case.path_parameters["slug"] = app
            case.call_and_validate(headers=headers, checks=CHECKS)

        try:
            ask()
        except (Exception, BaseExceptionGroup) as error:
            broken.append(f"{operation.label}: {error}")
    assert not broken, "\n\n".join(broken)
    assert len(operations) > 20


def test_the_schema_is_sound(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn")
    assert "openapi:" in capsys.readouterr().out
