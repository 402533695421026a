"""An app on several devices: deployed, estimated, charged for each, scaled up and down."""

from __future__ import annotations

import json
import re

import pytest
from django.urls import reverse

from interchain_site.testing.devices import make_device
from marketplace.conftest import lease_of
from marketplace.errors import NotEnoughNTC, NotYours
from marketplace.estimates import ExpectedUse, monthly_quantities
from marketplace.models import ChargePeriod, Deployment
from marketplace.services import charging, deployments
from nodes.agent.protocol import Meter
from nodes.errors import NoDevice
from nodes.models import Device, Lease
from nodes.services import liveness


@pytest.fixture
def devices(cast, device):
    return [device, *(make_device(cast.owner, f"More {n}") for n in range(3))]


def deploy(app, cast, replicas, **more):
    return deployments.deploy(app=app, expected=ExpectedUse(replicas=replicas), by=cast.publisher, **more)


def of(devices, lease):
    return next(one for one in devices if one.device.pk == lease.device_id)


def run_all(devices):
    for lease in Lease.objects.filter(action="run", state__in=["offered", "preparing"]):
        of(devices, lease).runs(lease, 40_000 + lease.slot)


def wanted():
    return sorted(Lease.objects.filter(action="run").values_list("slot", flat=True))


def test_replicas_are_estimated_placed_and_charged_each(ready, cast, devices, commit):
    one = monthly_quantities(ExpectedUse(), 10**9)
    three = monthly_quantities(ExpectedUse(replicas=3), 10**9)
    assert three[Meter.UPTIME] == 3 * one[Meter.UPTIME]
    assert three[Meter.COMPUTE] == 3 * one[Meter.COMPUTE]
    with commit():
        deployment = deploy(ready, cast, 3)
    with commit():
        run_all(devices)
    deployment.refresh_from_db()
    assert (deployment.state, deployment.replicas, wanted()) == ("running", 3, [0, 1, 2])
    for lease in Lease.objects.all():
        of(devices, lease).measures(lease, uptime=10_000)
    assert charging.charge_new_readings().leases == 3
    periods = ChargePeriod.objects.filter(deployment=deployment)
    assert len({period.lease_id for period in periods}) == 3
    assert len({period.nano_usd for period in periods}) == 1


def test_what_cannot_be_is_refused_before_anything_is_paid(ready, cast, devices):
    with pytest.raises(NoDevice, match="Only 4 devices"):
        deploy(ready, cast, 5)
    assert not Deployment.objects.exists()


def test_an_app_stays_running_while_one_of_its_replicas_is_lost(ready, cast, devices, commit):
    with commit():
        deployment = deploy(ready, cast, 2)
    with commit():
        run_all(devices)
    with commit():
        liveness.lose(Device.objects.get(pk=lease_of(deployment).device_id))
    deployment.refresh_from_db()
    assert (deployment.state, wanted()) == ("running", [0, 1])


def test_the_page_tells_a_failover_while_it_happens(
    client, ready, cast, devices, commit, django_assert_max_num_queries
):
    with commit():
        deployment = deploy(ready, cast, 2)
    with commit():
        run_all(devices)
    client.force_login(cast.publisher)
    url = reverse("app_status", args=["blog"])
    page = client.get(url).text
    assert page.count('data-label="Replica"') == 2
    assert "None yet: no device was lost." in page
    seen = re.search(r"seen=([^\"&]+)", page).group(1)
    assert client.get(f"{url}?seen={seen}").status_code == 204
    lost = Lease.objects.get(workload_id=deployment.pk, slot=1)
    with commit():
        liveness.lose(Device.objects.get(pk=lost.device_id))
    page = client.get(f"{url}?seen={seen}").text
    for words in ("stopped answering, with replica 2", "Another replica served meanwhile", "Under way", "2 → 3"):
        assert words in page
    with commit():
        run_all(devices)
    with django_assert_max_num_queries(16):
        page = client.get(url).text
    assert "Started on another device" in page
    assert "None yet" not in page


def test_one_replica_lost_is_started_elsewhere_and_the_page_says_so(running, devices, commit):
    with commit():
        liveness.lose(Device.objects.get(pk=lease_of(running).device_id))
    running.refresh_from_db()
    assert running.state == "starting"
    assert next(event.kind for event in running.events.all()) == "starting"
    with commit():
        run_all(devices)
    running.refresh_from_db()
    assert (running.state, running.message) == ("running", "")


def test_scaling_up_and_down(running, cast, devices, commit, spend_all):
    with commit():
        deployments.scale(app=running.app, replicas=3, standby=True, by=cast.publisher)
    assert wanted() == [0, 1, 2]
    assert Lease.objects.filter(action="standby").count() == 1
    with commit():
        deployments.scale(app=running.app, replicas=1, standby=False, by=cast.publisher)
    assert wanted() == [0]
    assert not Lease.objects.filter(action="standby").exists()
    with pytest.raises(NoDevice):
        deployments.scale(app=running.app, replicas=9, standby=False, by=cast.publisher)
    spend_all()
    with pytest.raises(NotEnoughNTC):
        deployments.scale(app=running.app, replicas=2, standby=False, by=cast.publisher)
    running.refresh_from_db()
    assert running.replicas == 1
    with pytest.raises(NotYours):
        deployments.scale(app=running.app, replicas=1, standby=False, by=cast.stranger)


def test_stopping_stops_every_replica_and_starting_starts_them(ready, cast, devices, commit):
    with commit():
        deployment = deploy(ready, cast, 2)
    with commit():
        run_all(devices)
        deployments.stop(app=ready, by=cast.publisher)
    from nodes.agent.protocol import Observed

    for lease in Lease.objects.all():
        with commit():
            of(devices, lease).says(lease, Observed.STOPPED)
    deployment.refresh_from_db()
    assert (deployment.state, wanted()) == ("stopped", [])
    with commit():
        deployments.start(app=ready, by=cast.publisher)
    assert wanted() == [0, 1]


def test_the_page_and_the_api_scale(client, running, cast, devices, commit):
    client.force_login(cast.publisher)
    page = client.get(reverse("app_detail", args=["blog"])).content.decode()
    assert 'name="replicas"' in page
    with commit():
        assert client.post(reverse("app_scale", args=["blog"]), {"replicas": "2"}).status_code == 302
    assert wanted() == [0, 1]
    assert client.post(reverse("app_scale", args=["blog"]), {"replicas": "x"}).status_code == 302
    with commit():
        answer = client.post(
            reverse("api_scale", args=["blog"]), json.dumps({"replicas": 3}), content_type="application/json"
        )
    assert answer.status_code in (202, 401)
    client.force_login(cast.stranger)
    assert client.post(reverse("app_scale", args=["blog"]), {"replicas": "1"}).status_code == 404
