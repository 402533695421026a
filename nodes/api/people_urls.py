"""Under /api/v1/: what a device's owner may do by program."""

from __future__ import annotations

urlpatterns: list[object] = []
