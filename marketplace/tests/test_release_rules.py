"""What a release may name."""

from __future__ import annotations

import pytest

from marketplace.errors import BadRelease
from marketplace.release_rules import check_spec
from marketplace.services.publishing import ReleaseSpec

DIGEST = "@sha256:" + "a" * 64


@pytest.mark.parametrize(
    "name",
    [
        "127.0.0.1:5000/x",
        "192.168.1.1/x",
        "169.254.169.254/x",
        "localhost/x",
        "nas:5000/x",
        "nas.local/x",
        "127.1/x",
        "2130706433:80/x",
        "0x7f.0.0.1/x",
        "metadata.google.internal/x",
        "a.LAN:80/x",
    ],
)
def test_on_a_public_portal_no_release_asks_the_owners_own_network(settings, name):
    settings.PRIVATE_ENDPOINTS = False
    with pytest.raises(BadRelease) as refused:
        check_spec(ReleaseSpec(image_reference=name + DIGEST), has_archive=False)
    assert "image_reference" in refused.value.fields


@pytest.mark.parametrize("name", ["nginx", "library/nginx:1.27", "ghcr.io/team/app", "registry.example:5000/app"])
def test_registries_on_the_internet_are_taken(settings, name):
    settings.PRIVATE_ENDPOINTS = False
    check_spec(ReleaseSpec(image_reference=name + DIGEST), has_archive=False)


@pytest.mark.parametrize("changes", [{"runtime": "kata"}, {"runtime": "gvisor", "outbound": True}])
def test_a_runtime_nobody_has_and_one_that_cannot_call_out_are_refused(changes):
    with pytest.raises(BadRelease) as refused:
        check_spec(ReleaseSpec(image_reference="nginx" + DIGEST, **changes), has_archive=False)
    assert "runtime" in refused.value.fields


@pytest.mark.parametrize("changes", [{"runtime": "gvisor"}, {"runtime": "prefer-gvisor", "outbound": True}])
def test_gvisor_may_be_required_or_preferred(changes):
    check_spec(ReleaseSpec(image_reference="nginx" + DIGEST, **changes), has_archive=False)
