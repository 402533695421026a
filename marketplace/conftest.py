"""Things marketplace's tests start from: a rate, money, a device, an app with a release, the app deployed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from decimal import Decimal

import pytest
from django.utils import timezone

from billing.models import DeskRate
from billing.queries import balances
from billing.services import accounts, ledger
from interchain_site.core.models import User
from interchain_site.testing.cast import Cast
from interchain_site.testing.devices import FakeDevice, make_device
from marketplace.models import App, Deployment, PriceList, Release
from marketplace.services import deployments, price_lists, publishing
from nodes.models import Lease

DIGEST = "registry.example/blog@sha256:" + "a" * 64
NTC = 10**9
_keys = itertools.count()


def fund(user: User, units: int) -> None:
    """Give a person NTC (base units), as a deposit would."""
    now = timezone.now()
    ledger.post(
        postings=[
            ledger.Posting(
                key=f"test-deposit:{next(_keys)}",
                kind="deposit",
                lines=(
                    ledger.Line(accounts.platform_account("escrow"), -units),
                    ledger.Line(accounts.user_account(user.pk, "available"), units),
                ),
                effective_at=now,
            )
        ],
        now=now,
    )


@pytest.fixture
def price_list(db: None) -> PriceList:
    """Table 3; loaded again where a test with real transactions emptied the database."""
    return price_lists.load_table_3()


@pytest.fixture
def rate(db: None) -> Decimal:
    """One NTC is half a dollar."""
    return DeskRate.objects.create(rate=Decimal("0.5"), starts_at=timezone.now()).rate


@pytest.fixture
def device(cast: Cast) -> FakeDevice:
    return make_device(cast.owner)


@pytest.fixture
def app(cast: Cast) -> App:
    return publishing.register_app(name="Blog", by=cast.publisher)


@pytest.fixture
def release(app: App, cast: Cast) -> Release:
    return publishing.add_release(app=app, spec=publishing.ReleaseSpec(image_reference=DIGEST), by=cast.publisher)


@pytest.fixture
def ready(cast: Cast, price_list: PriceList, rate: Decimal, device: FakeDevice, release: Release) -> App:
    """An app that can be deployed: a release, a device online, a rate, and 10,000 NTC."""
    fund(cast.publisher, 10_000 * NTC)
    return release.app


@pytest.fixture
def spend_all(cast: Cast) -> Callable[[], None]:
    """Leave the publisher without a balance."""

    def spend() -> None:
        units = balances(cast.publisher.pk).available
        now = timezone.now()
        lines = (
            ledger.Line(accounts.user_account(cast.publisher.pk, "available"), -units),
            ledger.Line(accounts.platform_account("commission"), units),
        )
        ledger.post(postings=[ledger.Posting(f"spend:{now}", "spend", lines, now)], now=now)

    return spend


@pytest.fixture
def deployed(ready: App, cast: Cast, commit: Callable[[], object]) -> Deployment:
    with commit():
        return deployments.deploy(app=ready, by=cast.publisher)


@pytest.fixture
def running(deployed: Deployment, device: FakeDevice, commit: Callable[[], object]) -> Deployment:
    with commit():
        device.runs(lease_of(deployed))
    deployed.refresh_from_db()
    return deployed


def lease_of(deployment: Deployment) -> Lease:
    deployment.refresh_from_db()
    return Lease.objects.get(pk=deployment.lease_id)
