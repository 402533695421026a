"""A publisher's own domains, proven at a real name server over UDP: who gets them, keeps them and loses them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from interchain_site.core.errors import Invalid
from interchain_site.testing.name_server import NameServer
from marketplace import dns, domain_rules
from marketplace.errors import NotYours
from marketplace.models import App, Domain
from marketplace.services import domains, enforcement, publishing
from nodes.models import RouteDomain, RouteOptions

HOST = "www.example.com"


@pytest.fixture
def zone(settings):
    with NameServer() as server:
        settings.DNS_SERVERS = [f"127.0.0.1:{server.port}"]
        yield server


@pytest.fixture
def other(cast) -> App:
    return publishing.register_app(name="Other", by=cast.owner)


def proven(zone, app, by) -> Domain:
    domain = domains.add(app=app, host=HOST, by=by)
    zone.add(domain.record_name, domain.record_text)
    return domains.check(app=app, host=HOST, by=by)


def served_as() -> list[str]:
    return list(RouteDomain.objects.filter(host=HOST).values_list("name", flat=True))


def test_a_domain_is_served_once_its_record_is_there(zone, app, cast):
    domain = domains.add(app=app, host="WWW.Example.COM.", by=cast.publisher)
    assert domain.host == HOST
    assert domains.check(app=app, host=HOST, by=cast.publisher).proven_at is None
    assert served_as() == []
    zone.add(domain.record_name, "something else")
    zone.add(domain.record_name, domain.record_text)
    assert domains.check(app=app, host=HOST, by=cast.publisher).proven_at is not None
    assert served_as() == ["blog"]


def test_another_apps_record_proves_nothing(zone, app, other, cast):
    mine = domains.add(app=app, host=HOST, by=cast.publisher)
    theirs = domains.add(app=other, host=HOST, by=cast.owner)
    zone.add(mine.record_name, mine.record_text)
    assert mine.record_text != theirs.record_text
    assert domains.check(app=other, host=HOST, by=cast.owner).proven_at is None
    assert served_as() == []


def test_a_proven_domain_moves_on_fresh_proof_only(zone, app, other, cast):
    proven(zone, app, cast.publisher)
    theirs = domains.add(app=other, host=HOST, by=cast.owner)
    assert domains.check(app=other, host=HOST, by=cast.owner).proven_at is None
    assert served_as() == ["blog"]
    zone.add(theirs.record_name, theirs.record_text)
    assert domains.check(app=other, host=HOST, by=cast.owner).proven_at is not None
    assert served_as() == ["other"]
    assert Domain.objects.get(app=app).proven_at is None
    # The old record, still there, does not fetch it back by the periodic look of a proven one: both are in DNS, so
    # only somebody's asking moves it.
    assert Domain.objects.filter(proven_at__isnull=False).count() == 1


def test_a_removed_domain_stops_at_once(zone, app, cast):
    proven(zone, app, cast.publisher)
    domains.remove(app=app, host=HOST, by=cast.publisher)
    assert served_as() == []
    assert not Domain.objects.exists()


def test_a_record_may_be_gone_for_two_days_and_no_longer(zone, app, cast):
    proven(zone, app, cast.publisher)
    zone.clear()
    now = timezone.now()
    domains.sweep(now=now + timedelta(hours=7))
    assert "gone" in Domain.objects.get().message
    domains.sweep(now=now + timedelta(hours=14))
    assert served_as() == ["blog"]
    domains.sweep(now=now + timedelta(hours=7, days=2))
    assert served_as() == []
    assert Domain.objects.get().proven_at is None


def test_a_record_that_comes_back_in_time_is_forgiven(zone, app, cast):
    domain = proven(zone, app, cast.publisher)
    zone.clear()
    now = timezone.now()
    domains.sweep(now=now + timedelta(hours=7))
    zone.add(domain.record_name, domain.record_text)
    domains.sweep(now=now + timedelta(days=3))
    domain.refresh_from_db()
    assert (domain.missing_since, domain.message, served_as()) == (None, "", ["blog"])


def test_without_a_name_server_nothing_changes(zone, app, cast, settings, monkeypatch):
    monkeypatch.setattr(dns, "SECONDS", 0.5)
    proven(zone, app, cast.publisher)
    zone.silent = True
    for days in (1, 3, 5):
        domains.sweep(now=timezone.now() + timedelta(days=days))
    assert served_as() == ["blog"]
    assert "No name server answered" in Domain.objects.get().message


def test_the_sweep_finds_a_record_by_itself(zone, app, cast):
    domain = domains.add(app=app, host=HOST, by=cast.publisher)
    zone.add(domain.record_name, domain.record_text)
    domains.sweep()
    assert served_as() == ["blog"]
    asked = zone.asked
    domains.sweep()
    assert zone.asked == asked  # proven: looked at again in six hours


@pytest.mark.parametrize(
    "host",
    ["*.example.com", "com", "co.uk", "example", "blog.apps.localhost", "apps.localhost", "localhost", "192.0.2.1",
     "https://example.com", "example.com:80", "-a.example.com", "a..b.com", "", "a" * 64 + ".com", "x." * 130 + "com",
     "github.io", "exa mple.com", "www.example.com/{x}"],
)  # fmt: skip
def test_what_cannot_be_an_apps_own_is_refused(host, settings):
    settings.GATEWAY_DOMAIN = "apps.localhost"
    with pytest.raises(Invalid):
        domain_rules.checked(host)


def test_names_in_other_letters_are_kept_as_dns_has_them():
    assert domain_rules.checked("Bücher.example.com") == "xn--bcher-kva.example.com"


def test_an_app_has_twenty_at_most(app, cast):
    for number in range(20):
        domains.add(app=app, host=f"w{number}.example.com", by=cast.publisher)
    with pytest.raises(Invalid):
        domains.add(app=app, host="w20.example.com", by=cast.publisher)


def test_the_page_and_the_api_do_the_same(zone, app, cast, client):
    client.force_login(cast.publisher)
    answer = client.post(reverse("domain_action", args=["blog", "add"]), {"host": HOST}, follow=True)
    domain = Domain.objects.get()
    assert domain.record_text in answer.text
    assert (
        "Everybody registers"
        in client.post(reverse("domain_action", args=["blog", "add"]), {"host": "com.au"}, follow=True).text
    )
    zone.add(domain.record_name, domain.record_text)
    assert client.post(f"/api/v1/apps/blog/domains/{HOST}").json()["proven_at"]
    assert [row["host"] for row in client.get("/api/v1/apps/blog/domains").json()] == [HOST]
    assert client.delete(f"/api/v1/apps/blog/domains/{HOST}").status_code == 204
    assert client.delete(f"/api/v1/apps/blog/domains/{HOST}").status_code == 404
    assert (
        client.post("/api/v1/apps/blog/domains", {"host": "*.x.com"}, content_type="application/json").status_code
        == 400
    )


def test_a_stranger_may_nothing(zone, app, cast, client):
    for attempt in (domains.add, domains.remove, domains.check):
        with pytest.raises(NotYours):
            attempt(app=app, host=HOST, by=cast.stranger)
    client.force_login(cast.stranger)
    assert client.post(reverse("domain_action", args=["blog", "add"]), {"host": HOST}).status_code == 404
    assert client.get("/api/v1/apps/blog/domains").status_code == 404


def test_the_gateway_learns_until_when_data_is_kept_and_forgets_it_when_that_is_over(running, cast):
    now = timezone.now()
    enforcement.stop_for_balance(running.pk, now)
    options = RouteOptions.objects.get(name="blog")
    running.refresh_from_db()
    assert options.grace_ends_at == running.grace_ends_at
    enforcement.credited(publisher_id=cast.publisher.pk)
    options.refresh_from_db()
    assert options.grace_ends_at is None
