"""Devices that cannot be reached from outside: which they are, and which port of the tunnel server is whose.

A port is one lease's, given by the portal and checked at the server at each wish to listen; so no device can take another's place.
"""

from __future__ import annotations

import base64
import functools
import os
import socket
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import asyncssh
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from interchain_site.core import audit, redis
from nodes.agent.protocol import Tunnel
from nodes.models import Device, Lease, TunnelPort
from nodes.services import directory, pings, routes, succession
from nodes.services.wake import wake
from nodes.states import HOLDS_MEMORY, DeviceState, LeaseState

PROBE_SECONDS = 2.0
AT_ONCE = 50
_NO_KEY = (DeviceState.PENDING, DeviceState.REVOKED)


def give_ports(device: Device) -> None:
    """Give each lease of a device that needs tunnels a port, and take back those of leases that ended. Idempotent."""
    if not device.tunnelled:
        return
    leases = Lease.objects.filter(device=device)
    TunnelPort.objects.filter(lease__in=leases.exclude(state__in=HOLDS_MEMORY)).delete()
    for lease in leases.filter(state__in=HOLDS_MEMORY, tunnel_port=None):
        _give(lease)
        if lease.host_port:  # it serves already, at an address nobody can use
            routes.publish(lease)
            transaction.on_commit(functools.partial(directory.guarded_renew, lease.workload_id), robust=True)


def wanted(device: Device) -> Tunnel:
    """Return what the device's agent should open."""
    if not device.tunnelled:
        return Tunnel()
    ports = TunnelPort.objects.filter(lease__device=device).values_list("lease_id", "port")
    return Tunnel(
        host=settings.TUNNEL_HOST,
        port=settings.TUNNEL_PORT,
        host_key=host_key().export_public_key().decode().strip(),
        bind=settings.TUNNEL_BIND,
        ports={str(lease_id): port for lease_id, port in ports},
    )


def may_enter(*, device_id: str, key: bytes) -> bool:
    """Return whether this Ed25519 public key (32 bytes) is that device's, now."""
    device = _device(device_id)
    if device is None:
        return False
    text = base64.urlsafe_b64encode(key).rstrip(b"=").decode()
    old_counts = device.previous_key_until is not None and device.previous_key_until > timezone.now()
    return text == device.public_key or (old_counts and text == device.previous_key)


def may_listen(*, device_id: str, port: int) -> bool:
    """Return whether this port leads to a lease of this device, now."""
    device = _device(device_id)
    if device is None or not device.tunnelled:
        return False
    mine = TunnelPort.objects.filter(port=port, lease__device=device, lease__state__in=HOLDS_MEMORY)
    return mine.exists()


def probe() -> None:
    """Try to reach devices of which it is not known; one that does not, and answers over its link, gets tunnels, if it can open them."""
    unknown = Lease.objects.filter(
        state=LeaseState.RUNNING,
        host_port__gt=0,
        running_at__lt=timezone.now() - timedelta(seconds=PROBE_SECONDS),
        device__reached_at=None,
        device__tunnelled=False,
        device__can_tunnel=True,
    )
    seen: set[UUID] = set()
    for lease in unknown.select_related("device")[:AT_ONCE]:
        if lease.device_id in seen:
            continue
        seen.add(lease.device_id)
        if _answers(lease):
            Device.objects.filter(pk=lease.device_id).update(reached_at=timezone.now())
        elif pings.answers(lease.device_id) is not False:  # it may have lost its network a moment ago
            need(lease.device)


@transaction.atomic
def need(device: Device) -> None:
    """From now on clients come to this device through tunnels."""
    if Device.objects.filter(pk=device.pk, tunnelled=False).update(tunnelled=True) == 1:
        audit.record("device_needs_tunnels", subject=f"device:{device.pk}")
        wake(device.pk)


def host_key() -> asyncssh.SSHKey:
    """Return the tunnel server's key, made at its first use; web and tunnel processes share DATA_DIR."""
    path = settings.DATA_DIR / "tunnel_host_key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        partial.touch(mode=0o600)
        partial.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
        with suppress(FileExistsError):
            os.link(partial, path)  # whoever is first wins
        partial.unlink()
    return asyncssh.read_private_key(path)


def _device(device_id: str) -> Device | None:
    try:
        return Device.objects.exclude(state__in=_NO_KEY).filter(pk=UUID(device_id)).first()
    except ValueError:
        return None


def _give(lease: Lease) -> None:
    """The next port in turn: one just given back rests until the others had theirs, in case somebody still listens there."""
    first, size = settings.TUNNEL_PORT_FIRST, settings.TUNNEL_PORTS
    for _ in range(size):
        port = first + int(redis.connection().incr("tunnel:turn")) % size
        try:
            with transaction.atomic():
                TunnelPort.objects.create(lease=lease, port=port)
        except IntegrityError:
            if TunnelPort.objects.filter(lease=lease).exists():
                return
        else:
            return


def _answers(lease: Lease) -> bool:
    host, _, port = succession.endpoint_of(lease).rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS).close()
    except OSError:
        return False
    return True
