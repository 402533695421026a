"""The publisher's pages as a person uses them; strangers are told nothing."""

from __future__ import annotations

import re
import shlex

import pytest
from django.urls import reverse
from django.utils import timezone
from interchain_connect import cli

from marketplace.conftest import DIGEST, NTC, fund, lease_of
from marketplace.models import App, Deployment, Release
from marketplace.services import charging
from nodes.agent.protocol import Observed, Reason

RELEASE = {
    "image_reference": DIGEST, "port": "8080", "memory_mb": "256", "cpu_cores": "0.5", "disk_mb": "100",
    "environment": "COLOUR=red\n# a comment\nEMPTY=", "secrets": "KEY=s3cr3t", "health_kind": "http", "health_path": "/ok",
    "health_interval_seconds": "5", "health_timeout_seconds": "2", "health_start_seconds": "60", "profile": "baseline", "runtime": "runc",
    "volume_path": "/data",
}  # fmt: skip
USE = {
    "cpu_seconds_per_hour": "0.01",
    "transfer_gb_per_hour": "0",
    "stored_gb": "0",
    "monthly_active_users": "0",
    "replicas": "1",
}


@pytest.fixture
def browse(client, cast):
    client.force_login(cast.publisher)
    return client


def test_from_nothing_to_deployed(browse, cast, price_list, rate, device):
    fund(cast.publisher, 10_000 * NTC)
    assert "No apps yet" in browse.get(reverse("apps")).text
    answer = browse.post(reverse("app_new"), {"name": "My Blog", "slug": ""})
    assert answer.url == reverse("release_new", args=["my-blog"])
    answer = browse.post(answer.url, RELEASE)
    assert answer.url == reverse("app_deploy", args=["my-blog"])
    page = browse.get(answer.url).text
    assert "$72.00" in page  # thirty days of uptime
    answer = browse.post(answer.url, {**USE, "release": str(Release.objects.get().pk), "deploy": "yes"})
    assert answer.url == reverse("app_detail", args=["my-blog"])
    page = browse.get(answer.url).text
    assert "Starting" in page
    assert "COLOUR=red" in page
    assert "KEY" in page
    assert "s3cr3t" not in page
    release = Release.objects.get()
    assert (release.environment, release.secret_names) == ({"COLOUR": "red", "EMPTY": ""}, ["KEY"])
    assert lease_of(Deployment.objects.get()).workload.environment["KEY"] == "s3cr3t"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("image_reference", "registry.example/blog:latest", "by digest"),
        ("image_reference", "", "Give an image by digest"),
        ("port", "0", "greater than or equal to 1"),
        ("memory_mb", "1", "Memory is between"),
        ("environment", "no equals sign", "not NAME=value"),
        ("environment", "KEY=twice", "both environment and secrets"),
        ("secrets", "1BAD=x", "Not the name of a variable"),
        ("volume_path", "/etc/x", "outside the system"),
        ("volume_path", "/data/../etc", "Give the full path"),
        ("health_path", "no-slash", "begins with /"),
        ("ready_path", "no-slash", "begins with /"),
        ("health_start_seconds", "5000", "Between 1 and 600"),
    ],
)
def test_a_wrong_release_says_what_to_do_beside_the_field(browse, app, field, value, words):
    answer = browse.post(reverse("release_new", args=[app.slug]), RELEASE | {field: value})
    assert answer.status_code == 400
    assert words in answer.text.replace("&#x27;", "'")
    assert not Release.objects.exists()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"name": "", "slug": ""}, "This field is required"),
        ({"name": "Blog", "slug": "Ends-"}, "Use 1 to 40"),
        ({"name": "Blog", "slug": "admin"}, "kept for the site"),
        ({"name": "日本", "slug": ""}, "Use 1 to 40"),
        ({"name": "Mine too", "slug": "blog"}, "is taken"),
    ],
)
def test_a_wrong_app_says_what_to_do(browse, app, data, words):
    answer = browse.post(reverse("app_new"), data)
    assert answer.status_code == 400
    assert words in answer.text


def test_a_release_begins_from_the_last_one_and_keeps_its_secrets(browse, app):
    url = reverse("release_new", args=[app.slug])
    browse.post(url, RELEASE)
    page = browse.get(url).text
    assert "COLOUR=red" in page
    assert "s3cr3t" not in page
    browse.post(url, RELEASE | {"secrets": "", "keep_secrets": "on"})
    browse.post(url, RELEASE | {"secrets": ""})
    assert [release.secret_names for release in app.releases.order_by("number")] == [["KEY"], ["KEY"], []]


def test_not_enough_ntc_is_said_on_the_form(browse, price_list, rate, device, release):
    url = reverse("app_deploy", args=["blog"])
    assert "Buy NTC" in browse.get(url).text
    answer = browse.post(url, {**USE, "release": str(release.pk), "deploy": "yes"})
    assert answer.status_code == 400
    assert "One hour is expected to cost" in answer.text
    assert not Deployment.objects.exists()


def test_an_impossible_release_is_said_before_paying(browse, app, price_list, rate, device, cast):
    from marketplace.services import publishing

    publishing.add_release(
        app=app, spec=publishing.ReleaseSpec(image_reference=DIGEST, memory_bytes=10**12), by=cast.publisher
    )
    assert "cannot be placed now" in browse.get(reverse("app_deploy", args=["blog"])).text


def test_the_estimate_follows_the_form(browse, ready):
    url = reverse("app_estimate", args=["blog"])
    page = browse.get(url, {**USE, "cpu_seconds_per_hour": "1"}).text
    assert "$200.00" in page  # a second at 2,000 million instructions
    assert "$220.00" in page  # the same, said plainly with commission
    assert browse.get(url, {**USE, "stored_gb": "x"}).status_code == 204


def test_the_status_fragment_changes_only_when_something_did(browse, running, device, commit):
    url = reverse("app_status", args=["blog"])
    page = browse.get(url).text
    assert "http://blog." in page
    seen = re.search(r"seen=([^\"&]+)", page).group(1)
    assert browse.get(f"{url}?seen={seen}").status_code == 204
    with commit():
        device.says(lease_of(running), Observed.FAILED, reason=Reason.OUT_OF_MEMORY, log_tail="<b>Killed</b>")
    page = browse.get(f"{url}?seen={seen}").text
    assert "memory limit" in page
    assert "&lt;b&gt;Killed" in page


def test_costs_burn_and_time_left_are_shown(browse, running, device):
    device.measures(lease_of(running), uptime=1)
    charging.charge_new_readings(now=timezone.now())
    page = browse.get(reverse("app_detail", args=["blog"])).text
    for words in ("Cost so far", "Burn rate", "Time left", "What it spent lately", "What happened", "Release 1"):
        assert words in page


def test_the_line_that_reaches_an_app_without_the_gateway_can_be_copied(browse, running, settings):
    page = browse.get(reverse("app_detail", args=["blog"])).text
    line = re.search(r"<code>(interchain connect [^<]+)</code>", page)[1]
    program, *words = shlex.split(line)
    asked = cli._parser().parse_args(words)
    assert (program, asked.app, asked.portal, asked.port) == ("interchain", "blog", settings.PORTAL_URL, 8000)
    assert f'href="{reverse("directory_trust")}"' in page


def test_orders(browse, running):
    for action, state in (("stop", "stopping"), ("start", "stopping"), ("delete", "deleting")):
        answer = browse.post(reverse("app_action", args=["blog", action]))
        assert answer.url == reverse("app_detail", args=["blog"])
        running.refresh_from_db()
        assert running.state == state
    assert "being deleted" in browse.post(reverse("app_action", args=["blog", "stop"]), follow=True).text
    assert browse.post(reverse("app_action", args=["blog", "explode"])).status_code == 404
    assert browse.get(reverse("app_action", args=["blog", "stop"])).status_code == 405


def test_the_app_page_takes_a_constant_number_of_queries(browse, running, django_assert_max_num_queries):
    with django_assert_max_num_queries(29):
        browse.get(reverse("app_detail", args=["blog"]))
    with django_assert_max_num_queries(16):
        browse.get(reverse("app_status", args=["blog"]))


def test_the_list_takes_a_constant_number_of_queries(browse, running, cast, django_assert_max_num_queries):
    from marketplace.services import publishing

    for number in range(5):
        publishing.register_app(name=f"App {number}", by=cast.publisher)
    with django_assert_max_num_queries(8):
        assert "App 4" in browse.get(reverse("apps")).text


def test_prices_are_public(client, price_list):
    page = client.get(reverse("prices")).text
    for words in ("United States", "million instructions", "$0.10", "$0.01", "10 %"):
        assert words in page


def test_the_api_token_is_shown_once(browse):
    from rest_framework.authtoken.models import Token

    url = reverse("api_token")
    assert "You have no token" in browse.get(url).text
    page = browse.post(url, {"make": "yes"}).text
    key = Token.objects.get().key
    assert key in page
    assert key not in browse.get(url).text
    browse.post(url, {"make": "yes"})
    assert Token.objects.get().key != key
    browse.post(url, {"revoke": "yes"})
    assert not Token.objects.exists()


PAGES = ["app_detail", "app_status", "release_new", "app_deploy", "app_estimate"]


@pytest.mark.parametrize("page", PAGES)
def test_nobody_elses_pages(client, running, cast, page):
    url = reverse(page, args=["blog"])
    assert client.get(url).url.startswith(reverse("account_login"))
    for person in (cast.owner, cast.buyer, cast.stranger):
        client.force_login(person)
        assert client.get(url).status_code == 404


def test_nobody_elses_orders(client, running, cast):
    for person in (cast.owner, cast.staff, cast.stranger):
        client.force_login(person)
        for action in ("start", "stop", "redeploy", "delete"):
            client.post(reverse("app_action", args=["blog", action]))
    running.refresh_from_db()
    assert (running.state, running.desired) == ("running", "running")
    assert App.objects.count() == 1


def test_staff_look_but_do_not_touch(client, running, cast):
    client.force_login(cast.staff)
    page = client.get(reverse("app_detail", args=["blog"]))
    assert page.status_code == 200
    assert "do-stop" not in page.text
