"""What the device pages show, put together from queries. Constant numbers of queries, whatever runs on the device."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Sum

from interchain_site.core.templatetags.ui import bytes_
from nodes import reliability
from nodes.agent.limits import DAYS, Standing, least
from nodes.agent.protocol import Goodbye, Hours, Meter
from nodes.meters import readable
from nodes.models import Device, DeviceHistory, Lease, MeterTotal, SpotCheck
from nodes.reliability import History
from nodes.services import liveness, trust, twins, willingness
from nodes.states import HOLDS_MEMORY, DeviceState, SpotCheckState

MOST_LEASES = 50
DOCKER_OPTIONS = (
    "-d --name interchain-node --restart unless-stopped",
    "--network host --pid host --cgroupns host",  # the device's own bridges, processes and counters
    "--cap-drop ALL --cap-add NET_ADMIN --cap-add NET_RAW --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER",
    # Volumes are file systems in files, offered to Docker as loop devices.
    "--cap-add SYS_ADMIN -v /dev:/dev --device-cgroup-rule 'b 7:* rmw' --device-cgroup-rule 'c 10:237 rmw'",
    "--security-opt no-new-privileges",
    "-v /var/run/docker.sock:/var/run/docker.sock -v /var/lib/docker:/var/lib/docker",
    "-v /sys/fs/cgroup:/sys/fs/cgroup -v /run/lock:/run/lock -v interchain-node:/var/lib/interchain-node",
)
"""Kept as docs/agent-protocol.md has it; nodes/agent/tests/test_container.py runs it."""
FAREWELLS = {
    Goodbye.STOP.value: "Its agent was stopped.",
    Goodbye.UPDATE.value: "Its agent is being updated and is back in a moment.",
    Goodbye.SHUTDOWN.value: "It was shut down.",
    Goodbye.SLEEP.value: "It went to sleep.",
    Goodbye.UNINSTALL.value: "Its agent was uninstalled.",
}


def install_command(token: str) -> str:
    """Return the one command that makes a computer this device."""
    return f"curl -fsSL {settings.PORTAL_URL}/install/{token} | sudo sh"


def docker_command(token: str) -> str:
    """Return the command that runs the agent as a container instead; "" where the operator names no image for it."""
    if not settings.NODE_IMAGE:
        return ""
    return " ".join(
        [
            "sudo docker run",
            *DOCKER_OPTIONS,
            settings.NODE_IMAGE,
            f"start --portal {settings.PORTAL_URL} --token {token}",
        ]
    )


def standing(device: Device) -> Standing:
    """Return whether the device takes apps now, for what only the page need say: not what its state says already."""
    found = (
        willingness.standing(device) if device.state not in (DeviceState.PENDING, DeviceState.REVOKED) else Standing()
    )
    return found


def lent(device: Device) -> list[tuple[str, str]]:
    """Return both sets of limits in a few words each, the ones that are set."""
    page, own = device.both_limits
    rows = []
    transfer = least(page.transfer_bytes_per_month, own.transfer_bytes_per_month)
    if transfer:
        used = liveness.load_of(device).get("transfer_month_bytes", device.transfer_bytes)
        rows.append(("Traffic this month", f"{bytes_(used)} of {bytes_(transfer)}"))
    for limits in (page, own):
        if limits.hours:
            rows.append(("Hours", f"{hours_in_words(limits.hours)} ({limits.time_zone.replace('_', ' ')})"))
    profiles = [name for name in page.profiles if name in own.profiles]
    rows.append(("Sandboxes", ", ".join(profiles) or "none"))
    kernel = "a kernel of its own (gVisor) for apps that ask for it; " if device.has_gvisor else ""
    rows.append(("Between apps and this computer", f"{kernel}namespaces, cgroups and seccomp (runc)"))
    rows.append(
        ("Calls to the internet", "allowed for apps that ask" if page.outbound and own.outbound else "not allowed")
    )
    blocked = {*page.blocked_images, *own.blocked_images}
    if blocked:
        rows.append(("Images not accepted", ", ".join(sorted(blocked)[:5]) + (" …" if len(blocked) > 5 else "")))
    return rows


def checks(device: Device) -> dict[str, Any]:
    """Return the device's checks: what asks for its owner first, then what is fine."""
    wrong = [check for check in device.checks if not check["ok"]]
    shown = [
        {**check, "state": "failed" if check["needed"] else "warned", "label": "mend" if check["needed"] else "note"}
        for check in sorted(wrong, key=lambda check: not check["needed"])
    ]
    return {"open": shown, "fine": [check for check in device.checks if check["ok"]], "all": len(device.checks)}


def trusted(device: Device) -> dict[str, Any]:
    """Return the device's reliability in percent, the parts it comes from, and its last spot check (docs/trust.md)."""
    history = DeviceHistory.objects.filter(device=device).first()
    known = history and trust.seen_of(history, trust.capped_days(device)[device.pk], trust.traffic_of(device))
    found = reliability.parts(known or History())
    last = SpotCheck.objects.filter(device=device, decided_at__isnull=False).exclude(state=SpotCheckState.DROPPED)
    names = {
        "uptime": "there when it should be",
        "starts": "apps started",
        "claims": "honest readings",
        "traffic": "traffic the gateways saw",
        "checks": "spot checks passed",
    }
    return {
        "percent": f"{device.reliability / 10:.0f}",
        "parts": [(words, f"{found[name] / 10:.0f}") for name, words in names.items()],
        "last_check": last.order_by("-decided_at").first(),
    }


def hours_in_words(openings: tuple[Hours, ...]) -> str:
    """Return "Monday–Friday 09:00–17:00, Saturday 10:00–14:00": days that follow each other with the same hours as one."""
    runs: list[tuple[int, int, str]] = []
    for hours in sorted(openings, key=lambda hours: (hours.day, hours.opens)):
        text = f"{_clock(hours.opens)}–{_clock(hours.closes)}"
        if runs and runs[-1][2] == text and runs[-1][1] + 1 == hours.day:
            runs[-1] = (runs[-1][0], hours.day, text)
        else:
            runs.append((hours.day, hours.day, text))
    return ", ".join(f"{DAYS[a]}{f'–{DAYS[b]}' if b != a else ''} {text}" for a, b, text in runs)


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def devices(devices: Iterable[Device]) -> list[tuple[Device, datetime | None]]:
    """Return each device with when it was last heard."""
    listed = list(devices)
    heard = liveness.last_heard_of(listed)
    return [(device, heard[device.pk]) for device in listed]


def device(device: Device) -> dict[str, Any]:
    """Return the context of a device's page: its state, leases without what they run, and its meters."""
    leases = Lease.objects.filter(device=device, state__in=HOLDS_MEMORY).order_by("opened_at")
    sums = MeterTotal.objects.filter(lease__device=device).values("meter").annotate(sum=Sum("total"))
    totals = {row["meter"]: row["sum"] for row in sums}
    return {
        "device": device,
        "standing": standing(device),
        "lent": lent(device),
        "checks": checks(device),
        "trusted": trusted(device),
        "farewell": FAREWELLS.get(device.goodbye, ""),
        "has_twin": twins.is_warned(device),
        "last_heard_at": liveness.last_heard(device),
        "load": liveness.load_of(device),
        "leases": leases[:MOST_LEASES],
        "meters": [
            {"name": meter.value, "total": readable(meter, totals[meter.value])}
            for meter in Meter
            if meter.value in totals
        ],
    }
