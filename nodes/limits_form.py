"""The form of an owner's limits: people's units on the page, protocol.Limits behind it."""

from __future__ import annotations

import zoneinfo
from datetime import time
from decimal import Decimal
from typing import Any

from django import forms

from nodes.agent.limits import DAYS, MINUTES_A_DAY
from nodes.agent.protocol import Hours, Limits, Profile

GIGABYTE = 10**9
ZONES = [(name, name.replace("_", " ")) for name in sorted(zoneinfo.available_timezones())]
PROFILES = [
    (Profile.RESTRICTED.value, "restricted: apps that run as nobody and change nothing but their own data"),
    (Profile.BASELINE.value, "baseline: ordinary public images; most apps need it"),
]


def _amount(label: str, text: str) -> forms.DecimalField:
    return forms.DecimalField(
        label=label, help_text=text, required=False, min_value=0, max_value=Decimal(10**9), decimal_places=3
    )


class LimitsForm(forms.Form):
    """Reads and shows limits; whether they make sense says nodes/agent/limits.py:faults."""

    cores = _amount("Processor cores", "Empty lends what the device offered at enrolment.")
    memory_gb = _amount("Memory, GB", "All apps together.")
    disk_gb = _amount("Disk, GB", "Apps' data, kept data of stopped apps included.")
    transfer_gb = _amount(
        "Traffic a month, GB", "In and out, images included. Apps move away shortly before it is used up."
    )
    time_zone = forms.ChoiceField(label="Time zone", choices=ZONES, help_text="For the hours and the month.")
    drain_minutes = forms.IntegerField(
        label="Minutes for apps to move away", min_value=0, max_value=240, help_text="Before closing time."
    )
    profiles = forms.MultipleChoiceField(
        label="Sandboxes accepted", choices=PROFILES, widget=forms.CheckboxSelectMultiple
    )
    outbound = forms.BooleanField(
        label="Apps that ask for it may call out to the internet",
        required=False,
        help_text="Never into your own network. The device's own settings must allow it as well.",
    )
    blocked_images = forms.CharField(
        label="Images not accepted",
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": "xmrig\nregistry.example/*"}),
        help_text="One a line: a name, a pattern with *, or a digest.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for number, day in enumerate(DAYS):
            for end, label in (("opens", "from"), ("closes", "to")):
                attrs = {"type": "time", "class": "form-control", "aria-label": f"{day} {label}"}
                widget = forms.TimeInput(attrs=attrs, format="%H:%M")
                self.fields[f"{end}_{number}"] = forms.TimeField(label=f"{day} {label}", required=False, widget=widget)

    @property
    def days(self) -> list[dict[str, Any]]:
        """The rows of the week."""
        return [
            {"name": day, "opens": self[f"opens_{number}"], "closes": self[f"closes_{number}"]}
            for number, day in enumerate(DAYS)
        ]

    def amounts(self) -> list[forms.BoundField]:
        return [self[name] for name in ("cores", "memory_gb", "disk_gb", "transfer_gb")]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        for number, day in enumerate(DAYS):
            if (given.get(f"opens_{number}") is None) != (given.get(f"closes_{number}") is None):
                self.add_error(f"closes_{number}", f"{day}: give both times, or neither.")
        return given

    def limits(self) -> Limits:
        """Return what was typed; call after `is_valid`."""
        given = self.cleaned_data
        hours = [
            Hours(number, _minute(given[f"opens_{number}"]), _minute(given[f"closes_{number}"]) or MINUTES_A_DAY)
            for number in range(7)
            if given[f"opens_{number}"] is not None
        ]
        lines = [line.strip() for line in given["blocked_images"].splitlines()]
        return Limits(
            cpu_millis=int((given["cores"] or 0) * 1000),
            memory_bytes=int((given["memory_gb"] or 0) * GIGABYTE),
            disk_bytes=int((given["disk_gb"] or 0) * GIGABYTE),
            transfer_bytes_per_month=int((given["transfer_gb"] or 0) * GIGABYTE),
            hours=tuple(hours),
            time_zone=given["time_zone"],
            drain_minutes=given["drain_minutes"],
            profiles=tuple(given["profiles"]),
            outbound=given["outbound"],
            blocked_images=tuple(line for line in lines if line),
        )


def initial(limits: Limits) -> dict[str, Any]:
    """Return the form's first values. Of several openings on one day the form has room for the first (the API has for all)."""
    values: dict[str, Any] = {
        "cores": _plain(limits.cpu_millis, 1000),
        "memory_gb": _plain(limits.memory_bytes, GIGABYTE),
        "disk_gb": _plain(limits.disk_bytes, GIGABYTE),
        "transfer_gb": _plain(limits.transfer_bytes_per_month, GIGABYTE),
        "time_zone": limits.time_zone,
        "drain_minutes": limits.drain_minutes,
        "profiles": list(limits.profiles),
        "outbound": limits.outbound,
        "blocked_images": "\n".join(limits.blocked_images),
    }
    for hours in reversed(limits.hours):
        values[f"opens_{hours.day}"] = _time(hours.opens)
        values[f"closes_{hours.day}"] = _time(hours.closes)
    return values


def _minute(moment: time) -> int:
    return moment.hour * 60 + moment.minute


def _time(minute: int) -> time:
    return time(minute % MINUTES_A_DAY // 60, minute % 60)


def _plain(amount: int, unit: int) -> str:
    return f"{Decimal(amount) / unit:f}".rstrip("0").rstrip(".") if amount % unit else str(amount // unit or "")
