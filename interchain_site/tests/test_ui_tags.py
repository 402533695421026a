"""The filters every page uses say numbers, times and states the way people read them."""

from __future__ import annotations

import datetime as dt

import pytest
from django import forms
from django.template import engines
from django.utils import timezone

from interchain_site.core.templatetags import ui


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90_061, "1 d 1 h"), (None, "–"), (86_460, "1 d")],
)
def test_duration(seconds, words):
    assert ui.duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (2_000_000, "2 MB"), (None, "–")]
)
def test_bytes(count, words):
    assert ui.bytes_(count) == words


@pytest.mark.parametrize(
    ("exact", "headline"),
    [
        ("9,998.014759922 NTC", "9,998.01 NTC"),
        ("$0.000347604", "$0.00034"),
        ("1.999999999 NTC", "1.99 NTC"),
        ("0.00 NTC", "0.00 NTC"),
        ("$3,573.43214184 an hour", "$3,573.43 an hour"),
        ("1 h 23 min", "1 h 23 min"),
    ],
)
def test_headlines_are_cut_never_rounded_up(exact, headline):
    assert ui.short(exact) == headline


def test_ago_carries_the_exact_time(time_machine):
    time_machine.move_to("2026-01-31 12:00:00+00:00", tick=False)
    assert ">5 min ago<" in ui.ago(timezone.now() - dt.timedelta(minutes=5, seconds=3))
    assert ">in 2 h<" in ui.ago(timezone.now() + dt.timedelta(hours=2))
    assert 'title="2026-01-31 12:00:00 UTC"' in ui.ago(timezone.now())
    assert "never" in ui.ago(None)


def test_a_state_has_a_tone_and_words():
    assert [ui.tone(state) for state in ("running", "Lost", "wiped", "no device")] == ["good", "bad", "rest", "warn"]
    assert ui.words("wiped_by_owner") == "Wiped by owner"


class Order(forms.Form):
    size = forms.ChoiceField(widget=forms.RadioSelect, choices=[("s", "Small"), ("l", "Large")], help_text="Pick one.")
    note = forms.CharField(required=False)
    agree = forms.BooleanField(label="I agree")


def shown(form: forms.Form) -> str:
    source = '{% include "components/form.html" %}'
    return " ".join(engines["django"].from_string(source).render({"form": form}).split())


def test_fields_have_labels_help_and_errors_tied_to_them():
    html = shown(Order({"note": "x"}))
    assert '<label for="id_note"> Note <span class="optional">(optional)</span> </label>' in html
    assert '<label class="form-check-label" for="id_size_0">Small</label>' in html
    assert 'aria-describedby="id_size_helptext id_size_error"' in html
    assert 'id="id_agree_error"' in html


def test_an_untouched_form_shows_no_error():
    assert "is-invalid" not in shown(Order())
