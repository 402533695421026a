"""The browser suite: `bin/test browser`, or pytest -m browser (root conftest.py keeps it out of every other run)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interchain_site.testing.browser import LAUNCH_ARGUMENTS, Site, chromium, site


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, object]:
    return {"executable_path": chromium(), "args": LAUNCH_ARGUMENTS}


@pytest.fixture(scope="session")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("portal")) as running_site:
        yield running_site
