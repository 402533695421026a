"""A template that names a variable which is not there fails the test, instead of printing nothing.

Django keeps such mistakes quiet but logs each at DEBUG on `django.template`; `TemplateMistakes` listens there and raises.
Allowed, because the author asked: a variable tested by `{% if %}`, and one with a `|default` filter. Other people's
templates (admin, allauth) are left alone.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from django.conf import settings
from django.template.base import FilterExpression, Node
from django.template.defaultfilters import default, default_if_none
from django.template.defaulttags import FirstOfNode, IfNode

_FORGIVING_NODES = (IfNode, FirstOfNode)
_FORGIVING_FILTERS = {default, default_if_none}


class TemplateMistake(AssertionError):
    """One of our templates used a variable that its view does not give it."""


class TemplateMistakes(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if not record.msg.startswith("Exception while resolving variable"):
            return True
        node = _author_of(sys._getframe())
        if node is not None and _is_ours(node) and not isinstance(node, _FORGIVING_NODES):
            missing = record.args[0] if isinstance(record.args, tuple) else "?"
            raise TemplateMistake(
                f"{node.origin.name}, line {getattr(node.token, 'lineno', '?')}: no variable “{missing}” here."
            )
        return False


def _author_of(frame: FrameType | None) -> Node | None:
    """Return the template node being rendered, or None when it forgives a missing variable."""
    while frame is not None:
        thing = frame.f_locals.get("self")
        if isinstance(thing, FilterExpression) and _FORGIVING_FILTERS & {rule[0] for rule in thing.filters}:
            return None
        if isinstance(thing, Node):
            return thing
        frame = frame.f_back
    return None


def _is_ours(node: Node) -> bool:
    path = getattr(getattr(node, "origin", None), "name", "") or ""
    return path.startswith(str(settings.BASE_DIR)) and "site-packages" not in path


@contextmanager
def mistakes_raise() -> Iterator[None]:
    """Within the block, a missing variable in one of our templates raises `TemplateMistake`."""
    logger = logging.getLogger("django.template")
    level, listener = logger.level, TemplateMistakes()
    logger.addFilter(listener)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeFilter(listener)
