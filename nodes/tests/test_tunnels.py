"""Devices behind NAT: the system's ssh against the real tunnel server. Nobody listens where another device's app is reached."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import subprocess
import threading
from contextlib import suppress

import httpx
import pytest
from nacl.signing import SigningKey

from interchain_site.testing.devices import make_device, make_workload
from interchain_site.testing.servers import free_port, wait_for_port
from nodes import queries
from nodes.agent.keys import DeviceKey
from nodes.agent.protocol import Observed
from nodes.agent.tunnel import Tunnels
from nodes.conftest import eventually, in_thread, serving
from nodes.gateway import tunnel_server
from nodes.models import Device, TunnelPort
from nodes.services import devices, leases, placement, routes, succession, tunnels

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server(settings, tmp_path):
    """The tunnel server in a thread."""
    settings.DATA_DIR = tmp_path / "portal"
    settings.TUNNEL_PORT = free_port()
    settings.TUNNEL_LISTEN = f"127.0.0.1:{settings.TUNNEL_PORT}"
    # Below what the kernel hands out to other connections, and not those of a test beside this one.
    settings.TUNNEL_PORT_FIRST, settings.TUNNEL_PORTS = 20_000 + os.getpid() % 11 * 1_000, 1_000

    async def serve():
        ended = asyncio.Event()
        served = asyncio.create_task(tunnel_server.serve(ended))
        while not stop.is_set():
            await asyncio.sleep(0.05)
        ended.set()
        await served

    stop = threading.Event()
    with in_thread(lambda: asyncio.run(serve()), stop):
        wait_for_port(settings.TUNNEL_PORT)
        yield


@pytest.fixture
def behind(server, cast):
    """Make an enrolled device that needs tunnels, with a lease that runs at this port there."""

    def make(name, port):
        device = make_device(cast.owner, name)
        Device.objects.filter(pk=device.device.pk).update(tunnelled=True)
        device.device.refresh_from_db()
        lease = placement.open_lease(workload=make_workload(name.lower()), by=None)
        Device.objects.filter(pk=device.device.pk).update(cpu_millis=lease.cpu_millis)  # the next lease goes elsewhere
        tunnels.give_ports(lease.device)
        device.runs(lease, host_port=port)
        return device, lease

    return make


def openssh(key):
    seed = key.as_dict(private=True)["d"]
    return DeviceKey(SigningKey(base64.urlsafe_b64decode(seed + "="))).openssh()


def opening(device, lease, port, folder):
    """The agent's tunnels of one device; its app is at `port` here."""
    wanted = lambda: (queries.desired_of(device.device).tunnel, {str(lease.pk): port})  # noqa: E731
    said = wanted()
    folder.mkdir(exist_ok=True)
    ways = Tunnels(folder, device_id=device.id, key=lambda: openssh(device.key), wanted=lambda: said)
    return in_thread(ways.run, ways._stopping)


def ssh(device, folder, *arguments, key=None, user=None):
    """Run ssh as this device, with wishes of its own; returns how it ended."""
    folder.mkdir(exist_ok=True)
    file = folder / "key"
    file.touch(mode=0o600)
    file.write_bytes(openssh(key or device.key))
    tunnel = queries.desired_of(device.device).tunnel
    options = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ExitOnForwardFailure=yes")
    given = [part for option in options for part in ("-o", option)]
    call = ["ssh", "-F", "/dev/null", "-i", str(file), *given, "-p", str(tunnel.port), *arguments]
    who = f"{user or device.id}@{tunnel.host}"
    with suppress(subprocess.TimeoutExpired):
        return subprocess.run([*call, who], capture_output=True, timeout=8, stdin=subprocess.DEVNULL).returncode
    return 0


def answers(port):
    with suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False, timeout=5).text
    return ""


def test_an_app_behind_nat_is_reached_through_its_port(behind, tmp_path):
    with serving("from behind") as port:
        device, lease = behind("Box", port)
        given = TunnelPort.objects.get(lease=lease).port
        assert succession.endpoint_of(lease) == f"127.0.0.1:{given}"
        assert routes.document_of([lease])["upstreams"] == [f"127.0.0.1:{given}"]
        with opening(device, lease, port, tmp_path / "agent"):
            eventually(lambda: answers(given) == "from behind", 20)
        eventually(lambda: answers(given) == "")


def test_no_device_listens_at_anothers_port(behind, tmp_path):
    with serving("mine") as port, serving("a thief's") as theirs:
        _, lease = behind("Victim", port)
        thief, own = behind("Thief", theirs)
        wanted = TunnelPort.objects.get(lease=lease).port
        assert ssh(thief, tmp_path / "a", "-N", "-R", f"127.0.0.1:{wanted}:127.0.0.1:{theirs}") != 0
        assert answers(wanted) == ""
        assert ssh(thief, tmp_path / "b", "-N", "-R", f"0.0.0.0:{wanted}:127.0.0.1:{theirs}") != 0
        assert ssh(thief, tmp_path / "c", "-N", "-R", f"127.0.0.1:{free_port()}:127.0.0.1:{theirs}") != 0
        mine = TunnelPort.objects.get(lease=own).port
        assert ssh(thief, tmp_path / "d", "-N", "-R", f"0.0.0.0:{mine}:127.0.0.1:{theirs}") != 0
        assert ssh(thief, tmp_path / "e", "-N", "-R", f"127.0.0.1:{mine}:127.0.0.1:{theirs}") == 0  # its own: stays up


def test_a_tunnel_is_all_there_is(behind, tmp_path, settings):
    with serving("mine") as port:
        device, _ = behind("Box", port)
        assert ssh(device, tmp_path / "a", "-T") != 0  # no shell
        assert ssh(device, tmp_path / "b", "-W", f"127.0.0.1:{port}") != 0  # no way to the portal's own ports
        assert ssh(device, tmp_path / "c", "-N", "-R", f"{tmp_path}/socket:127.0.0.1:{port}") != 0


def test_only_a_devices_own_key_opens(behind, tmp_path):
    with serving("mine") as port:
        device, lease = behind("Victim", port)
        thief, _ = behind("Thief", port)
        wanted = TunnelPort.objects.get(lease=lease).port
        forward = f"127.0.0.1:{wanted}:127.0.0.1:{port}"
        assert ssh(device, tmp_path / "a", "-N", "-R", forward, key=thief.key) != 0
        assert ssh(device, tmp_path / "b", "-N", "-R", forward, user="root") != 0


def test_a_removed_device_is_cut_off(behind, tmp_path, cast):
    with serving("mine") as port:
        device, lease = behind("Box", port)
        given = TunnelPort.objects.get(lease=lease).port
        with opening(device, lease, port, tmp_path / "agent"):
            eventually(lambda: answers(given) == "mine", 20)
            devices.revoke_device(device=device.device, by=cast.owner)
            eventually(lambda: answers(given) == "", 20)
            assert not tunnels.may_enter(device_id=device.id, key=b"")


def test_the_port_of_an_ended_lease_is_closed_and_not_given_out_at_once(behind, tmp_path):
    with serving("mine") as port:
        device, lease = behind("Box", port)
        given = TunnelPort.objects.get(lease=lease).port
        with opening(device, lease, port, tmp_path / "agent"):
            eventually(lambda: answers(given) == "mine", 20)
            leases.close_lease(lease_id=lease.pk, by=None)
            device.says(lease, Observed.STOPPED)
            eventually(lambda: answers(given) == "", 20)
        tunnels.give_ports(device.device)
        assert not TunnelPort.objects.exists()
        _other, second = behind("Other", port)
        assert TunnelPort.objects.get(lease=second).port != given


def test_a_device_that_cannot_be_reached_gets_tunnels_by_itself(box, monkeypatch, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(tunnels, "PROBE_SECONDS", 0.0 if False else 0.5)
    lease = placement.open_lease(workload=make_workload("blog"), by=None)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        box.runs(lease, host_port=closed.getsockname()[1])
        Device.objects.filter(pk=box.device.pk).update(can_tunnel=True)
        eventually(lambda: tunnels.probe() or Device.objects.get(pk=box.device.pk).tunnelled)


def test_a_device_that_answers_needs_none(box, settings):
    lease = placement.open_lease(workload=make_workload("blog"), by=None)
    Device.objects.filter(pk=box.device.pk).update(can_tunnel=True)
    with serving("here") as port:
        box.runs(lease, host_port=port)
        eventually(lambda: tunnels.probe() or Device.objects.get(pk=box.device.pk).reached_at)
    tunnels.probe()
    assert not Device.objects.get(pk=box.device.pk).tunnelled
