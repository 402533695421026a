"""Fixtures of every suite: a real Valkey per test process, and the cast."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("DEBUG", "1")
os.environ.setdefault("INTERCHAIN_ENV_FILE", "/dev/null")
os.environ.setdefault("FIELD_ENCRYPTION_KEYS", "dGVzdHMtb25seS1rZXktdGVzdHMtb25seS1rZXktISE=")

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from interchain_site.core import redis
from interchain_site.testing.cast import Cast, make_cast
from interchain_site.testing.flush import allow_flush
from interchain_site.testing.servers import valkey
from interchain_site.testing.templates import mistakes_raise

BROWSER_SUITE = Path(__file__).parent / "interchain_site" / "tests" / "browser"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the browser suite, and keep it out of a run that does not name `browser` by mark or by path."""
    asked = "browser" in config.option.markexpr or any("browser" in argument for argument in config.args)
    for item in items:
        if BROWSER_SUITE in item.path.parents:
            item.add_marker("browser")
    if not asked:
        left_out = [item for item in items if item.get_closest_marker("browser")]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if not item.get_closest_marker("browser")]


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    with valkey() as url:
        yield url


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Let go of what servers of the tests' own still hold: PostgreSQL drops no database that somebody is connected to."""
    yield
    with django_db_blocker.unblock():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )


@pytest.fixture(scope="session", autouse=True)
def _ledger_may_be_flushed() -> None:
    allow_flush()


@pytest.fixture(autouse=True)
def _real_redis(valkey_url: str, settings, tmp_path: Path) -> None:
    """Point everything at the session's Valkey, emptied, and at a data folder of the test's own."""
    settings.REDIS_URL = valkey_url
    settings.CELERY_BROKER_URL = valkey_url
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": valkey_url}}
    settings.DATA_DIR = tmp_path
    settings.WHITENOISE_AUTOREFRESH = True  # static files straight from their folders, no collectstatic
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    redis.connection().flushall()


@pytest.fixture(autouse=True)
def _template_mistakes_fail() -> Iterator[None]:
    with mistakes_raise():
        yield


@pytest.fixture
def cast(db: None) -> Cast:
    return make_cast()


@pytest.fixture
def commit(django_capture_on_commit_callbacks: Callable[..., object]) -> Callable[[], object]:
    """`with commit():` runs what waits for the commit, as the real thing would."""
    return lambda: django_capture_on_commit_callbacks(execute=True)
