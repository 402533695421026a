"""The owner's forms. They only read what was typed; services say what is acceptable."""

from __future__ import annotations

from django import forms

from nodes.regions import Region


class DeviceForm(forms.Form):
    name = forms.CharField(max_length=60, help_text="What you call this computer, e.g. “Living room”.")
    region = forms.ChoiceField(choices=Region.choices, help_text="Where it stands. Prices differ by region.")
