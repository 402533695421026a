"""Which agents serve the directory: found out by asking them, and handed to agents and clients a few at a time."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from nodes.agent import records
from nodes.agent.errors import AgentError
from nodes.agent.peer_http import ask
from nodes.agent.protocol import Report
from nodes.models import Device
from nodes.services import directory_keys, endpoints, succession
from nodes.states import DeviceState

PEERS = 24  # of one agent
PROBED_AGAIN_AFTER = timedelta(minutes=10)
PROBES, THREADS, PROBE_SECONDS = 400, 32, 2.0
SAMPLE_SECONDS = 600  # a device keeps its peers so long, so that its answers stay the same
CACHED_SECONDS = 30.0
_HERE = (DeviceState.ONLINE, DeviceState.PAUSED, DeviceState.DRAINING)
_cache: dict[str, tuple[float, object]] = {}


def hear(*, device: Device, report: Report) -> None:
    """Note where a device serves the directory. Nobody is told before it was found there.

    Raises:
        Malformed: it is no port of an app.
    """
    if report.directory_port != device.directory_port:
        endpoints.check_port(device.endpoint_host, report.directory_port)
        Device.objects.filter(pk=device.pk).update(
            directory_port=report.directory_port, directory_answers=False, directory_probed_at=None
        )
        device.directory_port = report.directory_port


def probe() -> int:
    """Ask devices whether they serve the directory where they say; returns how many do.

    A device may name any host as its own, so an address is handed out only if what answers there speaks as that device.
    """
    now = timezone.now()
    due = Device.objects.filter(state__in=_HERE, directory_port__gt=0).exclude(
        directory_probed_at__gt=now - PROBED_AGAIN_AFTER
    )
    rows = list(due.order_by("directory_probed_at")[:PROBES])
    if not rows:
        return 0
    with ThreadPoolExecutor(min(THREADS, len(rows))) as pool:
        answers = list(pool.map(_answers, [(address_of(device), str(device.pk)) for device in rows]))
    for answered in (True, False):
        found = [device.pk for device, said in zip(rows, answers, strict=True) if said is answered]
        Device.objects.filter(pk__in=found).update(directory_answers=answered, directory_probed_at=now)
    return sum(answers)


def address_of(device: Device) -> str:
    """Return `host:port` of a device's directory."""
    return f"{succession.bracketed(device)}:{device.directory_port}"


def sample_for(device_id: UUID) -> tuple[str, ...]:
    """Return a few other agents' directories: the same ones for ten minutes, others after."""
    known = _reachable()
    pick = random.Random(f"{device_id}:{int(time.time()) // SAMPLE_SECONDS}")  # noqa: S311 (a sample, no secret)
    sample = pick.sample(known, min(PEERS + 1, len(known)))
    return tuple(sorted(address for pk, address in sample if pk != device_id)[:PEERS])


def signed_nodes() -> str:
    """Return a signed list of a few nodes for clients; "" where there are none. The same for a while."""
    held = _cache.get("nodes")
    if held is not None and held[0] > time.monotonic():
        return str(held[1])
    known = [address for _, address in _reachable()]
    # Seeded by the time, so that every web process signs the same list and an agent's ETag holds at each.
    begun = int(time.time()) // SAMPLE_SECONDS * SAMPLE_SECONDS
    some = tuple(sorted(random.Random(begun).sample(known, min(records.MOST_NODES, len(known)))))  # noqa: S311
    said = records.NodeList(some, begun, begun + settings.DIRECTORY_RECORD_SECONDS)
    compact = records.sign(said, directory_keys.signer(directory_keys.in_force())) if some else ""
    _cache["nodes"] = (time.monotonic() + (SAMPLE_SECONDS if some else CACHED_SECONDS), compact)
    return compact


def forget() -> None:
    """Look at the database again at the next question."""
    _cache.clear()


def _reachable() -> list[tuple[UUID, str]]:
    """Return every device whose directory answered, from a copy this process keeps for half a minute."""
    held = _cache.get("reachable")
    if held is not None and held[0] > time.monotonic():
        return held[1]  # type: ignore[return-value]
    rows = Device.objects.filter(state__in=_HERE, directory_answers=True, directory_port__gt=0).order_by("pk")
    found = [(device.pk, address_of(device)) for device in rows.only("endpoint_host", "directory_port")]
    _cache["reachable"] = (time.monotonic() + CACHED_SECONDS, found)
    return found


def _answers(question: tuple[str, str]) -> bool:
    address, device_id = question
    try:
        said = ask(address, "/gossip/digest", seconds=PROBE_SECONDS)
    except (AgentError, ValueError):
        return False
    return said is not None and said.get("device") == device_id
