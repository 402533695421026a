"""An app's data over the REST API, as a script would use it. The stranger sees nothing."""

from __future__ import annotations

from uuid import uuid4

import pytest
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from marketplace.tests.test_volumes import keeps_data as keeps_data  # the fixture
from marketplace.tests.test_volumes import taken as taken  # the fixture
from nodes.models import Lease, Snapshot, SnapshotRepository

pytestmark = pytest.mark.redis


def api(user) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {Token.objects.get_or_create(user=user)[0].key}")
    return client


@pytest.fixture
def publisher(cast) -> APIClient:
    return api(cast.publisher)


def url(deployed, rest: str = "") -> str:
    return f"/api/v1/apps/{deployed.app.slug}/snapshots{rest}"


def test_taking_one_and_asking_for_it_until_it_is_there(publisher, deployed, keeps_data):
    answer = publisher.post(url(deployed))
    assert (answer.status_code, answer.json()["state"], answer.json()["taken_at"]) == (202, "wanted", None)
    again = publisher.post(url(deployed))
    assert again.json()["id"] == answer.json()["id"]
    assert publisher.get(url(deployed, f"/{answer.json()['id']}")).json() == answer.json()
    assert Snapshot.objects.get().lease == keeps_data


def test_the_list_says_how_often_how_much_and_which_are_kept(publisher, deployed, taken, django_assert_max_num_queries):
    with django_assert_max_num_queries(12):
        found = publisher.get(url(deployed)).json()
    assert found["every_seconds"] == 3600
    assert "--keep-daily=7" in found["keeps"]
    (only,) = found["snapshots"]
    assert (only["id"], only["volume_bytes"], only["cause"]) == (str(taken.pk), 5_000_000, "demand")


def test_how_often_is_set_within_reason(publisher, deployed, taken):
    assert publisher.patch(url(deployed), {"every_seconds": 86_400}, format="json").json()["every_seconds"] == 86_400
    for nonsense in (1, -5, "x", 99_999_999, 2**70):
        answer = publisher.patch(url(deployed), {"every_seconds": nonsense}, format="json")
        assert (answer.status_code, list(answer.json()["fields"])) == (400, ["every_seconds"])
    assert publisher.patch(url(deployed), {"every_seconds": 0}, format="json").json()["every_seconds"] == 0


def test_one_is_put_back(publisher, deployed, taken):
    answer = publisher.post(url(deployed, f"/{taken.pk}/restore"))
    assert (answer.status_code, answer.json()["state"]) == (202, "starting")
    assert Lease.objects.get(workload_id=deployed.pk, is_newest=True).restore_from == taken


def test_its_files_come_as_a_tar(publisher, deployed, taken, monkeypatch):
    async def archive(repository, restic_id):
        assert restic_id == taken.restic_id
        yield b"tar"

    monkeypatch.setattr("nodes.data_queries.restic.archive", archive)
    answer = publisher.get(url(deployed, f"/{taken.pk}/archive"))
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-tar")
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=")


def test_the_key_is_the_publishers_to_take(publisher, deployed, taken):
    answer = publisher.get(url(deployed, "/key"))
    assert answer.json() == {"password": SnapshotRepository.objects.get().key}
    assert answer.headers["Cache-Control"] == "no-store"


def test_an_app_without_data_is_told_so(publisher, deployed):
    assert publisher.get(url(deployed)).status_code == 404
    assert "keeps no data" in publisher.post(url(deployed)).json()["message"]
    for path in ("/key", f"/{uuid4()}", f"/{uuid4()}/archive"):
        assert publisher.get(url(deployed, path)).status_code == 404
    assert publisher.post(url(deployed, f"/{uuid4()}/restore")).status_code == 404


def test_the_stranger_reads_and_changes_nothing(cast, deployed, taken):
    for client, status in ((api(cast.stranger), 404), (api(cast.owner), 404), (APIClient(), 401)):
        for path in ("", "/key", f"/{taken.pk}", f"/{taken.pk}/archive"):
            assert client.get(url(deployed, path)).status_code == status
        for path in ("", f"/{taken.pk}/restore"):
            assert client.post(url(deployed, path)).status_code == status
        assert client.patch(url(deployed), {"every_seconds": 0}, format="json").status_code == status
    assert SnapshotRepository.objects.get().every_seconds == 3600
    assert SnapshotRepository.objects.get().restore_wanted is None
    assert Snapshot.objects.count() == 1
