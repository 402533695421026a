"""Whether an owner takes apps now, and which: what placement asks of a device before it promises anything."""

from __future__ import annotations

from django.utils import timezone

from nodes.agent import limits as rules
from nodes.agent.limits import Standing
from nodes.agent.protocol import Mode, Runtime, Workload
from nodes.models import Device
from nodes.states import DeviceState


def refusal(device: Device, workload: Workload) -> str:
    """Return why the owner does not take this workload at all, "" when it may come."""
    return next(filter(None, (rules.objection(limits, workload) for limits in device.both_limits)), "")


def standing(device: Device) -> Standing:
    """Return whether the device takes apps now: its own word, and both sets of limits by our clock and the traffic it told."""
    now = timezone.now()
    found = [Standing(Mode(device.local_mode), device.local_reason)]
    for limits in device.both_limits:
        used = device.transfer_bytes if device.transfer_month == rules.month(limits, now) else 0
        found += [rules.by_clock(limits, now), rules.by_traffic(limits, used)]
    return rules.strictest(found)


def willing(device: Device, workload: Workload) -> bool:
    """Return whether the device offers the workload's sandbox and its owner takes it now."""
    if workload.profile.value not in device.capacity.get("profiles", []):
        return False
    if workload.encrypted and not device.encrypts_volumes:
        return False
    if workload.runtime is Runtime.GVISOR and not workload.runtime_optional and not device.has_gvisor:
        return False
    return takes(device) and not refusal(device, workload)


def takes(device: Device) -> bool:
    """Return whether new apps may come to the device now."""
    return device.state == DeviceState.ONLINE and standing(device).mode is Mode.OPEN
