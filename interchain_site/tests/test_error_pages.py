"""When something is wrong the reader gets a page in words, in the site's own frame, and the right status."""

from __future__ import annotations

import re

import pytest
from django.conf import settings as django_settings
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path, reverse

from interchain_site.core.errors import Busy
from interchain_site.urls import urlpatterns as real_patterns

pytestmark = pytest.mark.django_db


def refuse(request: HttpRequest) -> HttpResponse:
    raise Busy("Somebody else is deploying this app. Try again in a moment.")


def explode(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("boom")


urlpatterns = [*real_patterns, path("refuse/", refuse), path("explode/", explode)]


@pytest.fixture(autouse=True)
def _with_broken_pages(settings):
    settings.ROOT_URLCONF = __name__


def test_not_found(client, cast):
    client.force_login(cast.stranger)
    page = client.get("/no/such/page/")
    assert page.status_code == 404
    assert "There is nothing here" in page.text


def test_not_allowed(client, cast):
    client.force_login(cast.stranger)
    page = client.get(reverse("admin:index"), follow=True)
    assert page.status_code == 403
    assert "Not allowed" in page.text


def test_our_mistake():
    page = Client(raise_request_exception=False).get("/explode/")
    assert page.status_code == 500
    assert "Something broke on our side" in page.text
    assert "boom" not in page.text


def test_a_domain_error_keeps_its_status_and_its_words(client):
    page = client.get("/refuse/")
    assert page.status_code == 503
    assert "Somebody else is deploying this app" in page.text


def test_an_expired_form_says_nothing_was_changed():
    page = Client(enforce_csrf_checks=True).post(reverse("account_login"), {"login": "x"})
    assert page.status_code == 403
    assert "Nothing was changed" in page.text


def test_every_page_forbids_foreign_and_inline_content(client):
    policy = client.get("/")["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy


def test_collected_static_files_have_every_file_the_templates_name(settings, tmp_path):
    settings.STATIC_ROOT = tmp_path / "static"
    manifest = "whitenoise.storage.CompressedManifestStaticFilesStorage"
    settings.STORAGES = {**django_settings.STORAGES, "staticfiles": {"BACKEND": manifest}}
    call_command("collectstatic", interactive=False, verbosity=0)
    sources = [path.read_text() for path in (django_settings.BASE_DIR / "templates").rglob("*.html")]
    named = {name for source in sources for name in re.findall(r"{% static ['\"]([^'\"]+)['\"] %}", source)}
    assert "css/tokens.css" in named
    for name in named:
        assert staticfiles_storage.url(name) != f"/static/{name}", f"{name} has no hash"
