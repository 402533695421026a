"""Where devices are: the regions that price lists are written for."""

from __future__ import annotations

from django.db import models


class Region(models.TextChoices):
    US = "us", "United States"
