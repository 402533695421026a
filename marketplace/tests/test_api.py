"""The publisher's API as a program uses it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest
from rest_framework.test import APIClient

from interchain_site.core.models import AuditEvent
from marketplace.conftest import DIGEST, NTC, fund, lease_of
from marketplace.models import App, Deployment, Release
from marketplace.services import charging, tokens
from nodes.agent.protocol import Observed

API = "/api/v1"


def client_of(user) -> APIClient:
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Token {tokens.replace_token(by=user)}")
    return api


@pytest.fixture
def api(cast):
    return client_of(cast.publisher)


def image_archive() -> bytes:
    """Return the smallest `docker save` file there is: one empty layer."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w"):
        pass
    layer_bytes = layer.getvalue()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/app"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer_bytes).hexdigest()}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": ["app:1"], "Layers": ["layer.tar"]}]).encode()
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for member, data in ((name, config), ("layer.tar", layer_bytes), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return whole.getvalue()


def test_from_nothing_to_a_bill(api, cast, price_list, rate, device, commit):
    fund(cast.publisher, 10_000 * NTC)
    assert api.post(f"{API}/apps", {"name": "Blog"}, format="json").json()["slug"] == "blog"
    release = {"image_reference": DIGEST, "environment": {"A": "1"}, "secrets": {"KEY": "s3cr3t"}, "port": 80}
    answer = api.post(f"{API}/apps/blog/releases", release, format="json")
    assert answer.status_code == 201
    assert "s3cr3t" not in answer.content.decode()
    assert answer.json()["secret_names"] == ["KEY"]
    estimate = api.post(f"{API}/apps/blog/estimate", {"cpu_seconds_per_hour": "0"}, format="json").json()
    assert estimate["covered"] is True
    assert estimate["owner"]["month"] == "72.072000000"  # uptime and 7.2 GB
    with commit():
        answer = api.post(f"{API}/apps/blog/deployment", {}, format="json")
    assert (answer.status_code, answer.json()["state"]) == (201, "starting")
    deployment = Deployment.objects.get()
    with commit():
        device.runs(lease_of(deployment))
    shown = api.get(f"{API}/apps/blog/deployment").json()
    assert shown["state"] == "running"
    assert shown["url"].startswith("http://blog.")
    device.measures(lease_of(deployment), transfer=0, uptime=1)
    charging.charge_new_readings()
    usage = api.get(f"{API}/apps/blog/usage").json()
    assert {row["meter"]: row["quantity"] for row in usage["meters"]}["uptime"] == 1
    assert usage["usd"] == "0.000000027"
    with commit():
        assert api.post(f"{API}/apps/blog/deployment/stop").status_code == 202
    with commit():
        device.says(lease_of(deployment), Observed.STOPPED)
    with commit():
        assert api.post(f"{API}/apps/blog/deployment/start").json()["state"] == "starting"
        assert api.post(f"{API}/apps/blog/deployment/redeploy", {"release": 1}, format="json").status_code == 202
        assert api.delete(f"{API}/apps/blog/deployment").json()["state"] == "deleting"
    kinds = [event["kind"] for event in api.get(f"{API}/apps/blog/events").json()]
    assert {"deployed", "running", "stopped", "deleting"} <= set(kinds)


def test_an_archive_is_uploaded_in_a_multipart_form(api, app, device):
    archive = image_archive()
    answer = api.post(
        f"{API}/apps/blog/releases",
        {"archive": io.BytesIO(archive), "port": "3000", "environment": '{"A": "1"}', "outbound": "false"},
        format="multipart",
    )
    assert answer.status_code == 201, answer.json()
    release = Release.objects.get()
    assert (release.archive_sha256, release.archive_bytes) == (hashlib.sha256(archive).hexdigest(), len(archive))
    assert release.image_id.startswith("sha256:")
    assert (release.port, release.environment, release.image_reference) == (3000, {"A": "1"}, "")


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"environment": "not json"}, "environment"),
        ({"secrets": "[1]"}, "secrets"),
        ({}, "image_reference"),
        ({"archive": "text"}, "archive"),
        ({"image_reference": "x:latest"}, "image_reference"),
    ],
)
def test_a_wrong_upload_says_which_field(api, app, form, field):
    answer = api.post(f"{API}/apps/blog/releases", form, format="multipart")
    assert answer.status_code == 400
    assert field in answer.json()["fields"]
    assert answer.json()["code"] == "invalid"


def test_what_is_no_image_is_refused(api, app):
    answer = api.post(f"{API}/apps/blog/releases", {"archive": io.BytesIO(b"hello")}, format="multipart")
    assert (answer.status_code, answer.json()["code"]) == (400, "archive_invalid")
    assert not Release.objects.exists()


def test_refusals_have_one_shape(api, cast, price_list, rate, device, release):
    answer = api.post(f"{API}/apps/blog/deployment", {}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (402, "not_enough_ntc")
    assert api.get(f"{API}/apps/blog/deployment").json()["code"] == "not_deployed"
    assert api.post(f"{API}/apps/blog/deployment", {"release": 9}, format="json").json()["fields"]["release"]
    assert api.get(f"{API}/apps/blog/releases/9").status_code == 404
    assert api.get(f"{API}/apps/blog/releases/1").json()["number"] == 1
    assert api.post(f"{API}/apps/blog/deployment/stop").status_code == 409


def test_lists(api, app, release, price_list):
    assert [row["slug"] for row in api.get(f"{API}/apps").json()] == ["blog"]
    assert api.get(f"{API}/apps/blog").json()["name"] == "Blog"
    assert [row["number"] for row in api.get(f"{API}/apps/blog/releases").json()] == [1]
    (us,) = api.get(f"{API}/price-lists").json()
    assert (us["region"], us["version"]) == ("us", 1)
    assert {row["meter"]: row["usd"] for row in us["prices"]}["compute"] == "0.100000000"


def test_nobody_elses_and_nobody_at_all(running, cast):
    reads = ("apps/blog", "apps/blog/releases", "apps/blog/releases/1", "apps/blog/deployment", "apps/blog/usage", "apps/blog/events")  # fmt: skip
    orders = ("deployment/start", "deployment/stop", "deployment/redeploy", "deployment", "estimate", "releases")
    for path in reads:
        assert APIClient().get(f"{API}/{path}").status_code == 401
    for person in (cast.owner, cast.buyer, cast.stranger):
        api = client_of(person)
        assert api.get(f"{API}/apps").json() == []
        for path in reads:
            assert api.get(f"{API}/{path}").status_code == 404
        for path in orders:
            assert api.post(f"{API}/apps/blog/{path}", {}, format="json").status_code == 404
        assert api.delete(f"{API}/apps/blog/deployment").status_code == 404
    running.refresh_from_db()
    assert running.state == "running"


def test_who_did_it_is_kept(api, cast):
    api.post(f"{API}/apps", {"name": "Blog"}, format="json")
    assert AuditEvent.objects.get(action="app_registered").by == cast.publisher
    assert App.objects.get().publisher == cast.publisher


def test_an_order_takes_few_statements(api, ready, device, commit, django_assert_max_num_queries):
    """From the click to the answer, and everything that follows the commit. The device is woken before the last nine."""
    with django_assert_max_num_queries(44), commit():
        assert api.post(f"{API}/apps/blog/deployment", {}, format="json").status_code == 201
    lease = lease_of(Deployment.objects.get())
    with commit():
        device.runs(lease)
        api.post(f"{API}/apps/blog/deployment/stop", {}, format="json")
        lease.refresh_from_db()
        device.says(lease, Observed.STOPPED)
    with django_assert_max_num_queries(45), commit():
        assert api.post(f"{API}/apps/blog/deployment/start", {}, format="json").status_code == 202
