"""Fixtures of nodes: an enrolled device with a key, and a caller of the agents' API."""

from __future__ import annotations

import pytest

from interchain_site.testing.cast import Cast
from interchain_site.testing.devices import FakeDevice, make_device


@pytest.fixture
def box(cast: Cast) -> FakeDevice:
    return make_device(cast.owner)
