"""Template filters used on every page; loaded for all templates by settings."""

from __future__ import annotations

from django import template

register = template.Library()
