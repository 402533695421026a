"""The rule that a missing template variable fails a test holds, and forgives what an author asked to be forgiven."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.template import Context, Origin, Template, engines

from interchain_site.testing.templates import TemplateMistake


def render(source: str, *, where: str = "templates/x.html", **context: object) -> str:
    origin = Origin(str(settings.BASE_DIR / where), "x.html")
    return Template(source, origin=origin, engine=engines["django"].engine).render(Context(context))


@pytest.mark.parametrize(
    "source",
    ["{{ nothing }}", "{{ known.nothing }}", "{% for x in nothing %}{{ x }}{% endfor %}", "{% url 'home' nothing %}"],
)
def test_a_missing_variable_raises(source):
    with pytest.raises(TemplateMistake, match="line 1"):
        render(source, known={})


@pytest.mark.parametrize(
    "source", ["{% if nothing %}x{% endif %}", "{{ nothing|default:'' }}", "{% firstof nothing '' %}"]
)
def test_a_tested_variable_may_be_missing(source):
    assert render(source) == ""


def test_other_peoples_templates_are_left_alone():
    assert render("{{ nothing }}", where=".venv/lib/site-packages/x.html") == ""
