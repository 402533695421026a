"""Where devices are: the regions that price lists are written for."""

from __future__ import annotations

from django.db import models


class Region(models.TextChoices):
    US = "us", "United States"


CENTRES: dict[Region, tuple[float, float]] = {Region.US: (39.8, -98.6)}
"""Latitude and longitude of the middle of each region: all that the public map tells of where a device is."""
