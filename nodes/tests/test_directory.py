"""The directory at the portal: what is signed and when, what agents are handed, and who may ask whom.

Longer than 300 lines because keys, records, deltas and peers are told with one directory.
"""

from __future__ import annotations

import io
import json
import time
import uuid
from datetime import timedelta
from unittest.mock import patch

import pytest
from django.core.management import call_command
from django.utils import timezone

from interchain_site.core.models import AuditEvent
from interchain_site.testing.devices import make_device, make_workload
from nodes.agent import protocol, records
from nodes.agent.config import Config, Home
from nodes.agent.contact import Contact
from nodes.agent.directory import Directory
from nodes.agent.protocol import Desired, Observed, Report
from nodes.agent.records import BadRecord, DirectoryDelta, Stale, Trust
from nodes.conftest import code
from nodes.errors import Malformed, NotFound
from nodes.models import Device, DirectoryKey, DirectoryRecord, Lease, TunnelPort
from nodes.services import directory, directory_keys, leases, peers, placement, routes, tunnels
from nodes.services.suspicion import suspect_endpoint

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_cached():
    peers.forget()


@pytest.fixture
def committed(django_capture_on_commit_callbacks):
    """Run what the portal does once a transaction is committed."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


@pytest.fixture
def served(box, committed):
    with committed():
        lease = placement.open_lease(workload=make_workload(), by=None)
        box.runs(lease)
    return lease


def read(name="blog", now=None):
    first, statements = directory_keys.chain()
    at = time.time() if now is None else now
    return records.read(directory.resolve(name), Trust(first, statements).keys(at), at)


def asks(agent, since=0, **headers):
    return agent.send(f"directory?since={since}", **headers)


def delta(answer):
    return protocol.from_json(DirectoryDelta, answer.content)


def test_a_lease_that_runs_is_signed_at_once(served, settings):
    record = read()
    assert record.endpoints == ("127.0.0.1:40000",)
    assert (record.workload_id, record.generation, record.generations) == (str(served.workload_id), 1, (1,))
    assert record.expires - record.issued == settings.DIRECTORY_RECORD_SECONDS
    with pytest.raises(Stale):
        read(now=record.expires + 1)


def test_nothing_is_signed_for_what_was_never_served(box, committed):
    with committed():
        lease = placement.open_lease(workload=make_workload(), by=None)
        box.says(lease, Observed.PREPARING)
    with pytest.raises(NotFound):
        directory.resolve("blog")


def test_the_next_generation_takes_the_place_and_its_number_is_higher(served, box, cast, committed):
    before = read()
    workload = leases.get(served.pk).workload
    with committed():
        second = placement.replace_workload(lease_id=served.pk, workload=workload, by=None)
        box.says(second, Observed.PREPARING)
    assert (read().endpoints, read().generation) == ((), 2)
    with committed():
        box.says(second, Observed.RUNNING, host_port=40_001)
    after = read()
    assert after.endpoints == ("127.0.0.1:40001",)
    assert records.supersedes(after, before)
    assert not records.supersedes(before, after)


def test_saying_the_same_signs_nothing(served, django_assert_num_queries):
    before = read().sequence
    directory.renew(served.workload_id)
    directory.sweep()
    assert read().sequence == before
    with django_assert_num_queries(6):
        directory.renew(served.workload_id)


def test_a_record_is_renewed_at_half_its_life(served, settings):
    before = read()
    half = timedelta(seconds=settings.DIRECTORY_RECORD_SECONDS / 2)
    DirectoryRecord.objects.update(expires_at=timezone.now() + half - timedelta(seconds=1))
    assert directory.sweep() == 1
    assert read().sequence > before.sequence


def test_what_a_dying_process_left_unsigned_the_sweep_signs(box):
    lease = placement.open_lease(workload=make_workload(), by=None)
    box.runs(lease)  # nothing runs on commit here
    assert not DirectoryRecord.objects.exists()
    assert directory.sweep() == 1
    assert read().endpoints == ("127.0.0.1:40000",)


def test_a_wiped_name_leaves_a_tombstone_that_outlives_what_was_signed_before(served, box, committed):
    before = read()
    with committed():
        leases.close_lease(lease_id=served.pk, by=None)
        box.says(served, Observed.STOPPED)
        leases.wipe_lease(lease_id=served.pk, by=None)
        box.wipes(served)
    gone = read()
    assert gone.wiped
    assert gone.endpoints == ()
    assert gone.expires >= before.expires
    assert records.supersedes(gone, before)
    DirectoryRecord.objects.update(expires_at=timezone.now())
    directory.sweep()
    assert not DirectoryRecord.objects.exists()


def test_a_name_that_went_to_another_workload_is_not_taken_back_by_the_first(served, box, committed):
    with committed():
        leases.close_lease(lease_id=served.pk, by=None)
        box.says(served, Observed.STOPPED)
        other = placement.open_lease(workload=make_workload(), by=None)
        box.runs(other, host_port=40_002)
    assert read().workload_id == str(other.workload_id)
    with committed():
        leases.wipe_lease(lease_id=served.pk, by=None)
        box.wipes(served)
    directory.sweep()
    assert read().endpoints == ("127.0.0.1:40002",)


def many(box, number):
    for index in range(number):
        lease = placement.open_lease(workload=make_workload(f"app-{index}", memory_bytes=2**20, cpu_millis=1), by=None)
        box.runs(lease, host_port=30_000 + index)
        directory.renew(lease.workload_id)


def test_an_agent_is_handed_what_it_lacks_page_by_page_and_nothing_twice(agent, box):
    many(box, 5)
    with patch.object(directory, "PAGE", 2):
        since, names, pages = 0, [], 0
        first, _ = directory_keys.chain()
        while True:
            said = delta(asks(agent, since))
            names += [records.read(jws, (first,), time.time()).name for jws in said.records]
            since, pages = said.sequence, pages + 1
            if not said.more:
                break
    assert names == [f"app-{index}" for index in range(5)]
    assert pages == 3
    changed = DirectoryRecord.objects.get(name="app-1")
    leases.close_lease(lease_id=leases.get(_lease_of(changed)).pk, by=None)
    directory.renew(changed.workload_id)
    said = delta(asks(agent, since))
    assert [records.unchecked(jws).name for jws in said.records] == ["app-1"]


def _lease_of(record):
    return Lease.objects.get(workload_id=record.workload_id).pk


def test_nothing_new_is_a_304(agent, box, served):
    answer = asks(agent)
    since = delta(answer).sequence
    empty = asks(agent, since)
    assert delta(empty).records == ()
    assert asks(agent, since, **{"If-None-Match": empty["ETag"]}).status_code == 304
    directory.renew(served.workload_id)
    leases.close_lease(lease_id=served.pk, by=None)
    directory.renew(served.workload_id)
    assert len(delta(asks(agent, since, **{"If-None-Match": empty["ETag"]})).records) == 1


def test_an_agent_ahead_of_the_portal_starts_over(agent, served):
    assert len(delta(asks(agent, 10**9)).records) == 1
    assert code(asks(agent, "x")) == (400, "malformed")


def test_the_number_of_queries_for_a_delta_does_not_grow(agent, box, django_assert_max_num_queries):
    many(box, 20)
    asks(agent)
    with django_assert_max_num_queries(8):
        assert len(delta(asks(agent)).records) == 20


def test_the_next_key_is_named_by_the_old_and_all_is_signed_anew(served, settings):
    first, _ = directory_keys.chain()
    old_record = directory.resolve("blog")
    directory_keys.change(by=None)
    directory.sweep()
    _, statements = directory_keys.chain()
    trust = Trust(first, statements)
    now = time.time()
    assert trust.current == DirectoryKey.objects.order_by("-id")[0].public_key != first
    assert records.read(directory.resolve("blog"), (trust.current,), now).endpoints == ("127.0.0.1:40000",)
    assert records.read(old_record, trust.keys(now), now).name == "blog"
    with pytest.raises(BadRecord):  # after the overlap the old key says nothing any more
        records.read(old_record, trust.keys(now + 3601), now)
    assert DirectoryKey.objects.get(public_key=first).private_key_encrypted == ""
    assert AuditEvent.objects.filter(action="directory_key_changed").exists()


def test_a_stolen_key_is_replaced_by_one_command(served):
    old_record = directory.resolve("blog")
    call_command("directory_key", "change", "--stolen", stdout=io.StringIO())
    trust = Trust(*directory_keys.chain())
    with pytest.raises(BadRecord):
        records.read(old_record, trust.keys(time.time()), time.time())
    assert read().endpoints == ("127.0.0.1:40000",)


def test_an_old_key_names_no_second_successor(tmp_path):
    from nodes.agent import keys

    old, one, two = (keys.create(tmp_path / name) for name in ("old", "one", "two"))
    said = [records.sign(records.KeyChange(old.public_x, new.public_x, 0), old) for new in (one, two)]
    trust = Trust(old.public_x, said)
    assert trust.current == one.public_x
    assert not trust.follow(said)
    assert trust.statements == said[:1]


def test_enrolment_and_desired_state_say_the_key_and_the_times(agent, settings):
    settings.SELF_STOP_SECONDS = 17
    assert agent.send("desired").json()["self_stop_seconds"] == 17


def test_the_trust_file_and_names_are_for_anybody(client, served):
    found = client.get("/directory/trust.json").json()
    assert found["key"] == directory_keys.chain()[0]
    said = client.get("/directory/blog").json()
    assert records.read(said["record"], (found["key"],), time.time()).endpoints == ("127.0.0.1:40000",)
    assert client.get("/directory/nothing").status_code == 404


def test_a_client_s_word_has_the_device_asked_and_only_about_what_is_in_the_directory(agent, client, served):
    said = {"workload_id": str(served.workload_id), "endpoint": "127.0.0.1:40000"}
    with patch("nodes.tasks.suspect_endpoint.delay") as asked:
        assert agent.send("suspects", json.dumps(said)).status_code == 204
        asked.assert_called_once_with(str(served.workload_id), "127.0.0.1:40000", "client")
        assert client.post("/gossip/suspect", said, content_type="application/json").status_code == 204
        assert code(agent.send("suspects", json.dumps(said | {"endpoint": "127.0.0.1:22"}))) == (404, "not_found")
        assert code(agent.send("suspects", json.dumps(said | {"workload_id": "x"}))) == (404, "not_found")
        assert code(agent.send("suspects", json.dumps(said | {"workload_id": str(uuid.uuid4())}))) == (404, "not_found")
    assert asked.call_count == 2


def test_suspicion_is_rate_limited_for_anybody(client, served):
    said = {"workload_id": str(served.workload_id), "endpoint": "127.0.0.1:40000"}
    with patch("nodes.tasks.suspect_endpoint.delay"):
        answers = {client.post("/gossip/suspect", said, content_type="application/json").status_code for _ in range(25)}
    assert answers == {204, 429}


def test_a_directory_is_handed_out_only_where_it_speaks_as_that_device(cast, box):
    other = make_device(cast.owner, "Other")
    peers.hear(device=box.device, report=Report(directory_port=19_420))
    with patch.object(peers, "ask", return_value={"device": "somebody else"}):
        assert peers.probe() == 0
    assert peers.sample_for(other.device.pk) == ()
    Device.objects.update(directory_probed_at=None)
    with patch.object(peers, "ask", return_value={"device": box.id}):
        assert peers.probe() == 1
    peers.forget()
    assert peers.sample_for(other.device.pk) == ("127.0.0.1:19420",)
    assert peers.sample_for(box.device.pk) == ()  # never itself
    first, _ = directory_keys.chain()
    assert records.read_nodes(peers.signed_nodes(), (first,), time.time()).nodes == ("127.0.0.1:19420",)


def test_a_device_cannot_name_the_portal_s_own_port(box, settings):
    settings.PORTAL_URL = "http://127.0.0.1:8123"
    with pytest.raises(Malformed):
        peers.hear(device=box.device, report=Report(directory_port=8123))
    with pytest.raises(Malformed):
        peers.hear(device=box.device, report=Report(directory_port=22))


def test_what_only_the_gateway_reaches_is_no_address_for_clients(served):
    Device.objects.update(tunnelled=True)
    directory.renew(served.workload_id)
    assert read().endpoints == ()


def test_clients_reach_a_device_behind_nat_at_its_port_of_the_tunnel_server(served, settings, committed):
    settings.TUNNEL_CLIENT_HOST, settings.TUNNEL_UPSTREAM_HOST = "tunnel.example", "tunnel"
    before = read().endpoints
    Device.objects.update(tunnelled=True)
    with committed():
        tunnels.give_ports(Device.objects.get())
    port = TunnelPort.objects.get().port
    assert read().endpoints == (f"tunnel.example:{port}",) != before, "at once, without a sweep"
    assert routes.document_of([Lease.objects.get()])["upstreams"] == [f"tunnel:{port}"]
    with patch("nodes.services.suspicion.suspect") as asked:
        for endpoint in (f"tunnel.example:{port}", f"tunnel:{port}"):
            suspect_endpoint(workload_id=served.workload_id, endpoint=endpoint, source="client")
    assert asked.call_count == 2


def test_a_port_that_was_not_given_yet_is_no_address(served, settings):
    settings.TUNNEL_CLIENT_HOST = "tunnel.example"
    Device.objects.update(tunnelled=True)
    directory.renew(served.workload_id)
    assert read().endpoints == ()


class OverHttp:
    """The calls of the agent's `Portal`, through Django's test client."""

    def __init__(self, agent):
        self._agent = agent

    def directory(self, since):
        return delta(asks(self._agent, since))

    def suspect(self, suspicion):
        assert self._agent.send("suspects", protocol.to_json(suspicion)).status_code == 204


def test_an_agent_takes_what_it_missed_and_passes_a_suspicion_on(agent, box, tmp_path):
    """The agent's own code against the portal's: what changed while it was away comes at once."""
    many(box, 3)
    config = Config(box.id, "http://x", "ws://x", 1, directory_port=0)
    home = Home(tmp_path / "home").create()
    made = Directory(home, config, Contact(), desired=Desired, hold=lambda decision: None, news=lambda: None)
    made.upkeep(OverHttp(agent))
    assert made.store.count() == 3
    for lease in Lease.objects.all():
        box.says(lease, Observed.RUNNING, host_port=lease.host_port + 10)
        directory.renew(lease.workload_id)
    made._fetch_due = 0.0
    made.upkeep(OverHttp(agent))
    assert records.unchecked(made.store.get("app-1")).endpoints == ("127.0.0.1:30011",)
    made._suspicions.append(records.Suspicion(str(lease.workload_id), f"127.0.0.1:{lease.host_port}"))
    with patch("nodes.tasks.suspect_endpoint.delay") as asked:
        made.upkeep(OverHttp(agent))
    asked.assert_called_once()
    made.store.close()
