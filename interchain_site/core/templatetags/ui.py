"""Template tags and filters used on every page; loaded for all templates by settings."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from django import forms, template
from django.forms.boundfield import BoundField
from django.template import Context
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from interchain_site.core.models import StaffAlert

register = template.Library()

TONES = {
    "good": "running online active settled confirmed claimed claimable paid succeeded completed published available verified ready final delivered replaced promoted returned",
    "busy": "open closed posted mined built created requested offered preparing pending draining starting deploying stopping placing queued new draft held submitted sent processing uploading building waiting asked reserved transferred on_the_way returning awaiting allocating refunding under_way",
    "warn": "unhealthy grace warned disputed frozen expiring delayed degraded no_device",
    "bad": "reverted failed lost rejected refused declined forfeited vetoed error",
}
_DECIMALS = re.compile(r"([\d,]+)\.(\d{3,})")
_TONE_OF = {state: tone for tone, states in TONES.items() for state in states.split()}


@register.filter
def tone(state: object) -> str:
    """Return how a state feels: good, busy, warn, bad, or rest for anything over or unknown."""
    return _TONE_OF.get(str(state).lower().replace(" ", "_"), "rest")


@register.filter
def words(name: object) -> str:
    """Return `wiped_by_owner` as "Wiped by owner"."""
    text = str(name).replace("_", " ").strip()
    return text[:1].upper() + text[1:]


@register.filter
def short(text: object) -> str:
    """Cut the decimals of an amount for a headline: two from one upwards, two significant digits below. Never rounds up."""
    return _DECIMALS.sub(_cut, str(text))


def _cut(found: re.Match[str]) -> str:
    whole, part = found.groups()
    if whole.strip("0,"):
        return f"{whole}.{part[:2]}"
    zeros = len(part) - len(part.lstrip("0"))
    return f"{whole}.{part[: max(2, zeros + 2)]}"


@register.filter
def duration(seconds: object) -> str:
    """Return a number of seconds (or a timedelta) in its two largest units: "2 d 3 h", "45 s"."""
    if seconds is None or seconds == "":
        return "–"
    whole = int(seconds.total_seconds() if isinstance(seconds, timedelta) else float(str(seconds)))
    parts = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count:,} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


@register.filter
def ago(moment: datetime | None) -> SafeString:
    """Return "5 min ago" or "in 3 h", with the exact UTC time for whoever points at it."""
    if moment is None:
        return format_html("<span>{}</span>", "never")
    seconds = (timezone.now() - moment).total_seconds()
    largest = duration(abs(seconds)).split(" ")
    text = (
        "just now"
        if abs(seconds) < 5
        else " ".join(largest[:2]) + " ago"
        if seconds > 0
        else "in " + " ".join(largest[:2])
    )
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(), at(moment), text)


@register.filter
def at(moment: datetime | None) -> str:
    """Return a moment as "2026-01-31 14:05:09 UTC"."""
    return "–" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


@register.filter(name="bytes")
def bytes_(count: int | None) -> str:
    """Return a number of bytes in decimal units, as Table 3 counts: "1.5 GB"."""
    if count is None:
        return "–"
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{count:,} B" if unit == "B" else f"{size:,.1f}".removesuffix(".0") + f" {unit}"


@register.simple_tag(takes_context=True)
def nav_link(context: Context, name: str, label: str, exact: bool = False) -> SafeString:
    """Return one `<li>` of a menu, marked when the reader is in that part of the site (or, `exact`, on that page)."""
    target = reverse(name)
    request = context.get("request")
    path = request.path if request is not None else ""
    inside = path == target if exact else path.startswith(target)
    current = SafeString(' aria-current="page"') if inside else ""
    return format_html('<li><a href="{}"{}>{}</a></li>', target, current, label)


@register.inclusion_tag("components/_field.html")
def field(bound: BoundField) -> dict[str, object]:
    """Show one form field with its label, help and errors, tied together for screen readers."""
    widget = bound.field.widget
    attrs = dict(widget.attrs)
    css = attrs.get("class", "")
    if isinstance(widget, forms.RadioSelect | forms.CheckboxSelectMultiple):
        widget.attrs["class"] = f"{css} form-check-input".strip()
        return {"bound": bound, "kind": "group"}
    if isinstance(widget, forms.CheckboxInput):
        kind, css = "check", f"{css} form-check-input"
    else:
        kind, css = "control", f"{css} {'form-select' if isinstance(widget, forms.Select) else 'form-control'}"
    if bound.errors:
        css += " is-invalid"
    return {"bound": bound, "widget": bound.as_widget(attrs={**attrs, "class": css.strip()}), "kind": kind}


@register.simple_tag
def standing_alerts() -> list[StaffAlert]:
    """Return what needs a person of the staff now, newest first."""
    return list(StaffAlert.objects.standing())
